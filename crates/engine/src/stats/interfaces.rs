//! The interfaces of a pod's network, by the table that the kernel writes for each process that lives in
//! it (proc_pid_net(5), `net/dev`): nobody has to enter the namespace for it.

use std::fs::File;
use std::io::Read;

use crate::pod::Pod;

/// Bytes of the table that are read: a container may make as many interfaces as it likes.
const TABLE: u64 = 64 << 10;
/// Bytes of it that one read(2) gives at most, and more than any line of it has.
const PAGE: usize = 4096;
const LINE: usize = 1024;
/// Interfaces that are told.
const MOST: usize = 64;

/// What went through one interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were not whole, or could not be sent.
    pub errors: u64,
    /// Packets dropped for want of room.
    pub dropped: u64,
}

/// Those of a pod with a network of its own whose sandbox lives on this node.
pub(super) fn of(pod: &Pod) -> Option<Vec<Interface>> {
    pod.netns.as_ref()?;
    let mut table = File::open(format!("/proc/{}/net/dev", pod.supervisor_pid?)).ok()?;
    let mut text = vec![0; PAGE];
    let length = table.read(&mut text).ok()?;
    text.truncate(length);
    // The kernel hands out a page of whole lines at a time: one with room for more of them was the last.
    if length > PAGE - LINE {
        table.take(TABLE).read_to_end(&mut text).ok()?;
    }
    Some(parse(&String::from_utf8_lossy(&text)))
}

/// Lines `  eth0: BYTES PACKETS ERRORS DROPPED FIFO FRAME COMPRESSED MULTICAST`, and the same of what was
/// sent, below two lines of titles.
fn parse(table: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, figures) = line.rsplit_once(':')?;
        let figures: Vec<u64> = figures
            .split_ascii_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let traffic = |at: usize| match figures.get(at..at + 4)? {
            &[bytes, packets, errors, dropped] => Some(Traffic {
                bytes,
                packets,
                errors,
                dropped,
            }),
            _ => None,
        };
        Some(Interface {
            name: name.trim().to_owned(),
            received: traffic(0)?,
            sent: traffic(8)?,
        })
    };
    // What was cut ends in the middle of a number.
    let whole = table.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().skip(2);
    lines.filter_map(line).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop \
        fifo colls carrier compressed\n";

    #[test]
    fn a_table_is_read_line_by_line() {
        let table = format!(
            "{TITLES}    lo:       0       0    0    0    0     0          0         0        0       0 \
               0    0    0     0       0          0\n  eth0: 1296 16 1 2 0 0 0 0 516 6 3 4 0 0 0 0\n\
             a:b@1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
        );
        let found = parse(&table);
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0", "a:b@1"]);
        let traffic = |bytes, packets, errors, dropped| Traffic {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(found[1].received, traffic(1296, 16, 1, 2));
        assert_eq!(found[1].sent, traffic(516, 6, 3, 4));
    }

    #[test]
    fn a_line_that_was_cut_is_left_out_and_many_are_cut_short() {
        let table =
            format!("{TITLES}eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\neth1: 1 2 3 4 0 0 0 0 5 6 7 8");
        assert_eq!(parse(&table).len(), 1);
        let line = "x: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        assert_eq!(parse(&format!("{TITLES}{}", line.repeat(1000))).len(), MOST);
    }
}
