//! Archives written byte by byte, so that they can be wrong in every way.

/// An archive under construction.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

/// One entry; anything may be set to anything.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub flag: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub data: Vec<u8>,
    /// What the size field says; the data's length unless set.
    pub size: Option<u64>,
    /// Bytes written over the finished header before its checksum is made.
    pub patch: Vec<(usize, Vec<u8>)>,
}

impl Entry {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Entry {
        Entry {
            name: name.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            data: Vec::new(),
            size: None,
            patch: Vec::new(),
        }
    }

    pub fn data(mut self, data: impl AsRef<[u8]>) -> Entry {
        self.data = data.as_ref().to_vec();
        self
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Entry {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn mode(mut self, mode: u32) -> Entry {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Entry {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn patch(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Entry {
        self.patch.push((offset, bytes.as_ref().to_vec()));
        self
    }

    fn header(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            block[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        let size = self.size.unwrap_or(self.data.len() as u64);
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        for (offset, bytes) in &self.patch {
            put(*offset, bytes);
        }
        put(148, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn entry(mut self, entry: &Entry) -> Tar {
        self.0.extend_from_slice(&entry.header());
        self.padded(&entry.data)
    }

    /// Raw bytes, filled up to a block.
    pub fn padded(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Tar {
        self.entry(&Entry::new(b'0', name).data(data))
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Tar {
        self.entry(&Entry::new(b'5', name))
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.entry(&Entry::new(b'2', name).link(target))
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.entry(&Entry::new(b'1', name).link(target))
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let data = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect::<Vec<u8>>();
        self.entry(&Entry::new(b'x', "PaxHeaders/x").data(data))
    }

    /// The archive as it is so far, without its end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = 1 + key.len() + 1 + value.len() + 1;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
