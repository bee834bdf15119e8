//! Blocks of headers: pairs of names and values, compressed with a dictionary, all blocks of one
//! direction as one zlib stream. What a block may grow to is bounded while it is inflated, and no peer
//! can refer to more than its own 32 KiB of history.
//! Specification: SPDY/3.1, 2.6.10.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a block may have when it is inflated. Kubernetes' have 200 bytes.
const INFLATED: usize = 16 << 10;

/// How many headers a block may have.
const PAIRS: usize = 64;

/// The words that the specification's dictionary begins with, each after its length as 32 bits.
const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,\
    accept-ranges,age,allow,authorization,cache-control,connection,content-base,\
    content-encoding,content-language,content-length,content-location,content-md5,content-range,\
    content-type,date,etag,expect,expires,from,host,if-match,if-modified-since,if-none-match,\
    if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,proxy-authenticate,\
    proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,\
    user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,\
    public,set-cookie,keep-alive,origin";

/// What follows them.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
    502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
    UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
    Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
    text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split(',') {
        let length = u32::try_from(word.len()).unwrap_or_default();
        dictionary.extend(length.to_be_bytes());
        dictionary.extend(word.as_bytes());
    }
    dictionary.extend(TAIL.as_bytes());
    dictionary
}

/// The headers of one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a name, whose case does not matter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let pair = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        // Several values of one name stand beside each other with a NUL between.
        pair.1.split('\0').next()
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(own).collect())
    }
}

/// Reads the blocks that a peer sends.
pub(crate) struct Inflater {
    zlib: Decompress,
    dictionary: Vec<u8>,
}

/// Writes blocks.
pub(crate) struct Deflater(Compress);

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
            dictionary: dictionary(),
        }
    }

    /// The headers of the next block.
    ///
    /// # Errors
    /// A block that is damaged or too large: the end of the connection, as the next one cannot be read.
    pub(crate) fn block(&mut self, compressed: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = compressed;
        while !rest.is_empty() {
            if plain.len() >= INFLATED {
                return Err(bad("headers that are too large"));
            }
            plain.reserve(1024);
            let before = (self.zlib.total_in(), plain.len());
            let inflated = self
                .zlib
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            match inflated {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.zlib.set_dictionary(&self.dictionary);
                    set.map_err(|_| bad("headers with another dictionary"))?;
                }
                Err(_) => return Err(bad("headers that cannot be inflated")),
                Ok(Status::StreamEnd) => return Err(bad("headers after the end of all headers")),
                Ok(_) if taken == 0 && plain.len() == before.1 => {
                    return Err(bad("headers that cannot be inflated"));
                }
                Ok(_) => {}
            }
        }
        self.rest(&mut plain)?;
        pairs(&plain)
    }

    /// What zlib still holds of the block.
    fn rest(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        loop {
            plain.reserve(1024);
            let before = plain.len();
            let inflated = self.zlib.decompress_vec(&[], plain, FlushDecompress::Sync);
            if plain.len() > INFLATED {
                return Err(bad("headers that are too large"));
            }
            if inflated.is_err() || plain.len() == before {
                return Ok(());
            }
        }
    }
}

fn pairs(plain: &[u8]) -> io::Result<Headers> {
    let mut rest = plain;
    let count = number(&mut rest)?;
    if count > PAIRS {
        return Err(bad(format!("{count} headers")));
    }
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((text(&mut rest)?, text(&mut rest)?));
    }
    Ok(Headers(pairs))
}

fn number(rest: &mut &[u8]) -> io::Result<usize> {
    let (bytes, after) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| bad("headers that end early"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes) as usize)
}

fn text(rest: &mut &[u8]) -> io::Result<String> {
    let length = number(rest)?;
    let (text, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| bad("headers that end early"))?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| bad("headers that are no text"))
}

impl Deflater {
    /// # Errors
    /// A dictionary that zlib does not take.
    pub(crate) fn new() -> io::Result<Self> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary())?;
        Ok(Self(zlib))
    }

    /// A block with these headers.
    ///
    /// # Errors
    /// Those of zlib.
    pub(crate) fn block(&mut self, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        plain.extend(length(headers.len()));
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend(length(text.len()));
                plain.extend(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            let rest = plain.get(taken..).unwrap_or_default();
            self.0.compress_vec(rest, &mut block, FlushCompress::Sync)?;
            if block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_specifications() {
        let mut zlib = Compress::new(Compression::fast(), true);
        let checksum = zlib.set_dictionary(&dictionary()).unwrap();
        assert_eq!((dictionary().len(), checksum), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_are_read_as_they_were_written_one_after_the_other() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        let long = "x".repeat(9000);
        for value in ["stdin", "stdin", "", &long, "é"] {
            let sent = [("streamType", value), ("port", "80")];
            let block = deflater.block(&sent).unwrap();
            assert_eq!(inflater.block(&block).unwrap(), Headers::of(&sent));
        }
        let block = deflater.block(&[]).unwrap();
        assert_eq!(inflater.block(&block).unwrap(), Headers::default());
    }

    #[test]
    fn names_have_no_case_and_of_several_values_the_first_counts() {
        let headers = Headers::of(&[("Streamtype", "data\0error")]);
        assert_eq!(headers.get("streamType"), Some("data"));
        assert_eq!(headers.get("port"), None);
    }

    #[test]
    fn what_inflates_to_too_much_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let bomb = deflater.block(&[("a", &"0".repeat(1 << 20))]).unwrap();
        assert!(bomb.len() < 16 << 10, "{}", bomb.len());
        let error = Inflater::new().block(&bomb).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for damaged in [&b"\0\0\0\0"[..], b"x\x9c\xff\xff\xff", &[0xff; 300]] {
            Inflater::new().block(damaged).unwrap_err();
        }
        let plain = |bytes: &[u8]| pairs(bytes).unwrap_err().to_string();
        assert!(plain(b"\0\0").contains("end early"));
        assert!(plain(b"\0\0\0\x01\0\0\0\x05ab").contains("end early"));
        assert!(plain(b"\xff\xff\xff\xff").contains("4294967295 headers"));
        assert!(plain(b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0").contains("no text"));
    }
}
