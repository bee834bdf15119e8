//! DNS messages (RFC 1035), as far as a resolver of names needs to look into them: one question read, and answers
//! with addresses and names written. Everything read is hostile: lengths are checked, nothing is recursed into, and a
//! question's name has no pointers.

use std::net::IpAddr;

/// Length of a message's header.
const HEADER: usize = 12;
/// The longest name on the wire.
const NAME_MAX: usize = 255;
/// The longest label.
const LABEL_MAX: usize = 63;
/// As many bytes as an answer has over UDP.
pub(super) const UDP_MAX: usize = 512;
/// And over TCP.
pub(super) const TCP_MAX: usize = 65_535;

/// Types of records.
pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
/// The class of the Internet.
const IN: u16 = 1;

/// Kinds of answers.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NO_SUCH_NAME: u8 = 3;
pub(super) const NOT_IMPLEMENTED: u8 = 4;
pub(super) const REFUSED: u8 = 5;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

/// A question that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Which answer is its.
    pub(super) id: [u8; 2],
    /// The name in lower case, without the dot at its end. Labels with other bytes than those of names of hosts make it
    /// one that nobody has.
    pub(super) name: String,
    /// The type that is asked for.
    pub(super) kind: u16,
    /// As it came: name, type and class.
    question: Vec<u8>,
    wants_recursion: bool,
}

/// Why a message is not answered from here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is no question at all: nobody waits for an answer.
    Silent,
    /// It is answered with that code.
    Answer(Vec<u8>),
}

impl Query {
    /// Reads a message with one question.
    pub(super) fn parse(packet: &[u8]) -> Result<Query, Bad> {
        let header = packet.get(..HEADER).ok_or(Bad::Silent)?;
        if header[2] & RESPONSE != 0 {
            return Err(Bad::Silent);
        }
        let id = [header[0], header[1]];
        let refused = |code| Bad::Answer(bare(id, header[2], code));
        if header[2] & OPCODE != 0 {
            return Err(refused(NOT_IMPLEMENTED));
        }
        if header[4..6] != [0, 1] {
            return Err(refused(FORMAT_ERROR));
        }
        let rest = &packet[HEADER..];
        let (name, length) = name(rest).ok_or_else(|| refused(FORMAT_ERROR))?;
        let question = rest
            .get(..length + 4)
            .ok_or_else(|| refused(FORMAT_ERROR))?;
        let number = |at: usize| u16::from_be_bytes([question[at], question[at + 1]]);
        if number(length + 2) != IN {
            return Err(refused(REFUSED));
        }
        Ok(Query {
            id,
            name,
            kind: number(length),
            question: question.to_vec(),
            wants_recursion: header[2] & RECURSION_DESIRED != 0,
        })
    }

    /// Is a message the answer to this question?
    pub(super) fn is_answered_by(&self, packet: &[u8]) -> bool {
        let question = packet.get(HEADER..HEADER + self.question.len());
        packet.get(..2) == Some(&self.id)
            && packet.get(2).is_some_and(|flags| flags & RESPONSE != 0)
            && packet.get(4..6) == Some(&[0, 1])
            && question.is_some_and(|question| question.eq_ignore_ascii_case(&self.question))
    }

    /// The answer with these records, of which as many are in it as there is room for.
    pub(super) fn answer(&self, code: u8, records: &[Record], most: usize) -> Vec<u8> {
        let mut packet = Vec::with_capacity(UDP_MAX);
        let recursion = match self.wants_recursion {
            true => RECURSION_DESIRED,
            false => 0,
        };
        packet.extend(self.id);
        packet.extend([
            RESPONSE | AUTHORITATIVE | recursion,
            RECURSION_AVAILABLE | code,
        ]);
        packet.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend(&self.question);
        let mut count = 0u16;
        for record in records {
            let before = packet.len();
            record.write(&mut packet);
            if packet.len() > most {
                packet.truncate(before);
                packet[2] |= TRUNCATED;
                break;
            }
            count += 1;
        }
        packet[6..8].copy_from_slice(&count.to_be_bytes());
        packet
    }

    /// The address whose name is asked for (RFC 1035, section 3.5; RFC 3596, section 2.5).
    pub(super) fn reverse(&self) -> Option<IpAddr> {
        if let Some(digits) = self.name.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0u8; 4];
            let mut labels = digits.split('.');
            for byte in bytes.iter_mut().rev() {
                *byte = labels.next()?.parse().ok()?;
            }
            return labels.next().is_none().then(|| IpAddr::from(bytes));
        }
        let digits = self.name.strip_suffix(".ip6.arpa")?;
        let mut bytes = [0u8; 16];
        let mut labels = digits.split('.');
        for byte in bytes.iter_mut().rev() {
            for shift in [0, 4] {
                let label = labels.next().filter(|label| label.len() == 1)?;
                *byte |= u8::from_str_radix(label, 16).ok()? << shift;
            }
        }
        labels.next().is_none().then(|| IpAddr::from(bytes))
    }
}

/// What stands in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Name(String),
}

impl Record {
    /// Of the name that was asked for, to be asked for again the next time: containers come and go.
    fn write(&self, packet: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Address(IpAddr::V4(ip)) => (A, ip.octets().to_vec()),
            Self::Address(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec()),
            Self::Name(name) => (PTR, on_wire(name)),
        };
        // A pointer to the question's name.
        packet.extend([0xc0, HEADER as u8]);
        packet.extend(kind.to_be_bytes());
        packet.extend(IN.to_be_bytes());
        packet.extend(0u32.to_be_bytes());
        packet.extend((data.len() as u16).to_be_bytes());
        packet.extend(data);
    }
}

fn on_wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(LABEL_MAX)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// An answer without anything in it, not even the question.
fn bare(id: [u8; 2], flags: u8, code: u8) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    packet[..2].copy_from_slice(&id);
    packet[2] = RESPONSE | (flags & (OPCODE | RECURSION_DESIRED));
    packet[3] = code;
    packet
}

/// A name without pointers, and its length on the wire.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            return Some((name, at + 1));
        }
        if length > LABEL_MAX || at + 1 + length > NAME_MAX {
            return None;
        }
        let label = bytes.get(at + 1..at + 1 + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            let byte = byte.to_ascii_lowercase();
            match byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                true => name.push(char::from(byte)),
                // In no file's name.
                false => name.push('?'),
            }
        }
        at += 1 + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut packet = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(on_wire(name));
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        packet
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let query = Query::parse(&question("Web.Example", A)).unwrap();
        assert_eq!((query.name.as_str(), query.kind), ("web.example", A));
        let ip = Record::Address("10.0.0.7".parse().unwrap());
        let answer = query.answer(NO_ERROR, std::slice::from_ref(&ip), UDP_MAX);
        assert!(query.is_answered_by(&answer));
        assert_eq!(answer[..4], [7, 8, 0x85, 0x80]);
        assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 7]);
        let many = vec![ip; 100];
        let answer = query.answer(NO_ERROR, &many, UDP_MAX);
        assert!(answer.len() <= UDP_MAX && answer[2] & TRUNCATED != 0);
        let answer = query.answer(NO_ERROR, &many, TCP_MAX);
        assert_eq!(answer[6..8], [0, 100]);
    }

    #[test]
    fn addresses_are_read_backwards() {
        let reverse = |name: &str| Query::parse(&question(name, PTR)).unwrap().reverse();
        assert_eq!(
            reverse("7.0.89.10.in-addr.arpa"),
            Some("10.89.0.7".parse().unwrap())
        );
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(six), Some("fd00::1".parse().unwrap()));
        for bad in [
            "7.0.89.in-addr.arpa",
            "1.7.0.89.10.in-addr.arpa",
            "x.0.89.10.in-addr.arpa",
            "1.ip6.arpa",
            "web",
        ] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    #[test]
    fn nonsense_is_refused_or_passed_over() {
        let good = question("a.b", A);
        for length in 0..HEADER {
            assert_eq!(Query::parse(&good[..length]), Err(Bad::Silent));
        }
        for length in HEADER..good.len() {
            assert!(
                matches!(Query::parse(&good[..length]), Err(Bad::Answer(_))),
                "{length}"
            );
        }
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = good.clone();
            change(&mut packet);
            Query::parse(&packet)
        };
        assert_eq!(with(&|packet| packet[2] |= RESPONSE), Err(Bad::Silent));
        for change in [
            &(|packet: &mut Vec<u8>| packet[2] |= 0x28) as &dyn Fn(&mut Vec<u8>),
            &|packet| packet[5] = 2,
            // A pointer to itself, and a label that is too long.
            &|packet| packet[HEADER] = 0xc0,
            &|packet| packet[HEADER] = 64,
        ] {
            assert!(matches!(with(change), Err(Bad::Answer(_))));
        }
        let long = vec!["a".repeat(60); 5].join(".");
        assert!(matches!(
            Query::parse(&question(&long, A)),
            Err(Bad::Answer(_))
        ));
        let odd = Query::parse(&question("a/..b", A)).unwrap();
        assert!(!odd.name.contains('/'), "{}", odd.name);
    }

    #[test]
    fn whatever_comes_is_read_without_a_panic() {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut packet = question("some.name.of-ours", A);
            for _ in 0..next() % 4 {
                let at = next() % packet.len();
                packet[at] = next() as u8;
            }
            packet.truncate(next() % (packet.len() + 1));
            if let Ok(query) = Query::parse(&packet) {
                let _ = (query.reverse(), query.answer(NO_ERROR, &[], UDP_MAX));
            }
        }
    }
}
