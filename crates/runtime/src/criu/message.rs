//! criu's RPC (criu's `images/rpc.proto`, protobuf 2): requests are written field by field, of an
//! answer only what is used here is read. Varints and length-delimited fields, which is all that
//! the messages have; never trusts a length that it reads.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a request asks for, and what an answer answers (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// Fields of `criu_opts`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opt {
    ImagesDirFd = 1,
    Pid = 2,
    LeaveRunning = 3,
    ExtUnixSk = 4,
    TcpEstablished = 5,
    EvasiveDevices = 6,
    ShellJob = 7,
    FileLocks = 8,
    LogLevel = 9,
    LogFile = 10,
    PageServer = 11,
    NotifyScripts = 12,
    Root = 13,
    ParentImg = 14,
    TrackMem = 15,
    AutoDedup = 16,
    WorkDirFd = 17,
    LinkRemap = 18,
    ExtMnt = 23,
    ManageCgroups = 24,
    CgRoot = 25,
    RstSibling = 26,
    InheritFd = 27,
    ManageCgroupsMode = 34,
    External = 37,
    EmptyNs = 38,
    JoinNs = 39,
    FreezeCgroup = 44,
    TcpSkipInFlight = 46,
    LazyPages = 48,
    OrphanPtsMaster = 50,
    ConfigFile = 51,
    LsmProfile = 53,
    LsmMountContext = 63,
}

/// A message that is being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number, an enumeration or a truth value.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// A string, or a message that is written.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn set(&mut self, opt: Opt, value: u64) {
        self.number(opt as u32, value);
    }

    /// A descriptor's number; none is negative.
    pub(super) fn set_fd(&mut self, opt: Opt, fd: i32) {
        self.set(opt, u64::from(fd.unsigned_abs()));
    }

    pub(super) fn set_text(&mut self, opt: Opt, value: &[u8]) {
        self.bytes(opt as u32, value);
    }

    pub(super) fn set_path(&mut self, opt: Opt, value: &Path) {
        self.set_text(opt, value.as_os_str().as_bytes());
    }

    /// A message of two strings: `ext_mount_map`, `cgroup_root`, `join_namespace`.
    pub(super) fn set_pair(&mut self, opt: Opt, first: &[u8], second: &[u8]) {
        let mut pair = Self::default();
        pair.bytes(1, first);
        pair.bytes(2, second);
        self.bytes(opt as u32, &pair.0);
    }

    /// A message of a string and a number: `inherit_fd`, `criu_page_server_info`.
    pub(super) fn set_numbered(&mut self, opt: Opt, name: &[u8], number: u64) {
        let mut pair = Self::default();
        pair.bytes(1, name);
        pair.number(2, number);
        self.bytes(opt as u32, &pair.0);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `criu_req` with its options. With `more`, criu waits for another one after it.
pub(super) fn request(kind: Kind, options: Option<&Message>, more: bool) -> Message {
    let mut request = Message::default();
    request.number(1, kind as u64);
    if let Some(options) = options {
        request.bytes(2, &options.0);
    }
    if more {
        request.number(4, 1);
    }
    request
}

/// `criu_req` that asks which of the features that matter there are.
pub(super) fn feature_check() -> Message {
    let mut features = Message::default();
    features.number(1, 1);
    features.number(2, 1);
    let mut asked = request(Kind::FeatureCheck, None, true);
    asked.bytes(5, &features.0);
    asked
}

/// `criu_req` that answers a notification.
pub(super) fn notified(well: bool) -> Message {
    let mut answer = request(Kind::Notify, None, false);
    answer.number(3, u64::from(well));
    answer
}

/// What is used of `criu_resp`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) kind: u64,
    pub(super) success: bool,
    /// Process id of what was restored.
    pub(super) restored: i32,
    pub(super) notification: Option<Notification>,
    pub(super) errno: i32,
    pub(super) message: String,
    pub(super) features: Features,
    pub(super) version: Version,
}

/// `criu_notify`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) script: String,
    pub(super) pid: i32,
}

/// `criu_features`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) mem_track: bool,
    pub(super) lazy_pages: bool,
}

/// `criu_version`: major, minor, sublevel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u64, pub(super) u64, pub(super) u64);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Response {
    /// `None` for bytes that are no such message.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        let mut left = Fields(bytes);
        while let Some(field) = left.next()? {
            match field {
                (1, Value::Number(kind)) => response.kind = kind,
                (2, Value::Number(success)) => response.success = success != 0,
                (4, Value::Bytes(restore)) => response.restored = pid(restore, 1)?,
                (5, Value::Bytes(notify)) => {
                    response.notification = Some(Notification {
                        script: text(notify, 1)?,
                        pid: pid(notify, 2)?,
                    });
                }
                (7, Value::Number(errno)) => response.errno = errno as i32,
                (8, Value::Bytes(features)) => {
                    response.features = Features {
                        mem_track: number(features, 1)? != 0,
                        lazy_pages: number(features, 2)? != 0,
                    };
                }
                (9, Value::Bytes(message)) => {
                    response.message = String::from_utf8_lossy(message).into_owned();
                }
                (10, Value::Bytes(version)) => {
                    response.version = Version(
                        number(version, 1)?,
                        number(version, 2)?,
                        number(version, 4)?,
                    );
                }
                _ => {}
            }
        }
        Some(response)
    }
}

/// The number in a field; 0 if it is not there.
pub(super) fn number(message: &[u8], wanted: u64) -> Option<u64> {
    let mut left = Fields(message);
    let mut found = 0;
    while let Some(field) = left.next()? {
        if let (field, Value::Number(value)) = field
            && field == wanted
        {
            found = value;
        }
    }
    Some(found)
}

/// An int32, which has the form of an int64; -1 where there is no process.
fn pid(message: &[u8], wanted: u64) -> Option<i32> {
    number(message, wanted).map(|value| value as i32)
}

/// The string in a field; empty if it is not there.
pub(super) fn text(message: &[u8], wanted: u64) -> Option<String> {
    let mut left = Fields(message);
    let mut found = String::new();
    while let Some(field) = left.next()? {
        if let (field, Value::Bytes(value)) = field
            && field == wanted
        {
            found = String::from_utf8_lossy(value).into_owned();
        }
    }
    Some(found)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// What is left to read of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field: `Some(None)` at the end, `None` if it is none.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return None };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_protobufs_form() {
        // protoc --encode: type: VERSION keep_open: true
        assert_eq!(
            request(Kind::Version, None, true).as_bytes(),
            [8, 10, 0x20, 1]
        );
        // type: DUMP opts { images_dir_fd: 300 pid: 7 ext_mnt { key: "/a" val: "b" } }
        let mut options = Message::default();
        options.set_fd(Opt::ImagesDirFd, 300);
        options.set(Opt::Pid, 7);
        options.set_pair(Opt::ExtMnt, b"/a", b"b");
        let wanted = [
            8, 1, 0x12, 15, 8, 0xac, 2, 16, 7, 0xba, 1, 7, 10, 2, b'/', b'a', 18, 1, b'b',
        ];
        assert_eq!(
            request(Kind::Dump, Some(&options), false).as_bytes(),
            wanted
        );
        // type: FEATURE_CHECK keep_open: true features { mem_track: true lazy_pages: true }
        assert_eq!(
            feature_check().as_bytes(),
            [8, 9, 0x20, 1, 0x2a, 4, 8, 1, 16, 1]
        );
        // type: NOTIFY notify_success: false
        assert_eq!(notified(false).as_bytes(), [8, 6, 0x18, 0]);
    }

    #[test]
    fn the_largest_number_takes_ten_bytes_and_comes_back() {
        let mut message = Message::default();
        message.number(3, u64::MAX);
        assert_eq!(message.as_bytes().len(), 11);
        assert_eq!(number(message.as_bytes(), 3), Some(u64::MAX));
    }

    #[test]
    fn answers_of_criu_are_read() {
        // What criu 3.17.1 answers to VERSION.
        let version = Response::parse(&[8, 10, 16, 1, 0x52, 6, 8, 3, 16, 17, 0x20, 1]).unwrap();
        assert_eq!((version.kind, version.success), (10, true));
        assert_eq!(version.version, Version(3, 17, 1));
        assert_eq!(version.version.to_string(), "3.17.1");
        // type: NOTIFY success: true notify { script: "post-restore" pid: 300 }
        let mut bytes = vec![8, 6, 16, 1, 0x2a, 17, 10, 12];
        bytes.extend_from_slice(b"post-restore");
        bytes.extend_from_slice(&[16, 0xac, 2]);
        let wanted = Notification {
            script: "post-restore".into(),
            pid: 300,
        };
        assert_eq!(Response::parse(&bytes).unwrap().notification, Some(wanted));
        // type: RESTORE success: true restore { pid: 5 }, and a field of the future, fixed64
        let bytes = [8, 2, 16, 1, 0x22, 2, 8, 5, 0xf9, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Response::parse(&bytes).unwrap().restored, 5);
        // type: DUMP success: false cr_errno: -1 cr_errmsg: "no"
        let mut bytes = vec![8, 1, 16, 0, 0x38];
        bytes.extend_from_slice(&[0xff; 9]);
        bytes.extend_from_slice(&[1, 0x4a, 2, b'n', b'o']);
        let failed = Response::parse(&bytes).unwrap();
        assert_eq!((failed.errno, failed.message.as_str()), (-1, "no"));
        // type: RESTORE success: false restore { pid: -1 }
        let mut bytes = vec![8, 2, 16, 0, 0x22, 11, 8];
        bytes.extend_from_slice(&[0xff; 9]);
        bytes.push(1);
        assert_eq!(Response::parse(&bytes).unwrap().restored, -1);
    }

    #[test]
    fn what_is_cut_short_or_no_message_is_refused() {
        let whole = [8, 2, 16, 1, 0x22, 2, 8, 5];
        for length in [1, 3, 5, 6, 7] {
            assert_eq!(Response::parse(&whole[..length]), None, "{length} bytes");
        }
        // A length beyond the end, a group, an endless number.
        assert_eq!(Response::parse(&[0x4a, 0xff, 0xff, 0xff, 0xff, 15]), None);
        assert_eq!(Response::parse(&[0x0b]), None);
        assert_eq!(Response::parse(&[0xff; 12]), None);
    }
}
