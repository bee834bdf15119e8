//! `floe top`: the processes of a container, by ps(1)'s words.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;

use base::rooted;
use engine::{Container, Engine};

use super::ps;
use crate::failure::Failure;
use crate::{names, output};

/// A container's /etc/passwd of more bytes is not read further.
const PASSWD: u64 = 1 << 20;
/// Ticks a second: what Linux tells programs.
const TICKS: u64 = 100;
/// What is shown without a wish.
const USUAL: [&str; 8] = [
    "user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args",
];

/// Options of `floe top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The newest container: no name is given then
    #[arg(long, short)]
    latest: bool,
    /// Name or id of the container, then columns: user, group, uid, gid, pid, ppid, hpid, huser, pcpu, etime, time, tty, state,
    /// nice, vsz, rss, comm, args
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

/// A column: its words, and what stands above it.
const COLUMNS: [(&[&str], &str); 18] = [
    (&["user", "ruser", "%U"], "USER"),
    (&["uid"], "UID"),
    (&["group", "rgroup", "%G"], "GROUP"),
    (&["gid"], "GID"),
    (&["pid", "%p"], "PID"),
    (&["ppid", "%P"], "PPID"),
    (&["hpid"], "HPID"),
    (&["huser"], "HUSER"),
    (&["pcpu", "%C"], "%CPU"),
    (&["etime", "%t"], "ELAPSED"),
    (&["time", "%x"], "TIME"),
    (&["tty", "tname", "%y"], "TTY"),
    (&["state", "stat"], "STATE"),
    (&["nice", "%n"], "NI"),
    (&["vsz", "%z"], "VSZ"),
    (&["rss"], "RSS"),
    (&["comm", "%c"], "COMMAND"),
    (&["args", "%a"], "COMMAND"),
];

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let newest = ps::selected(engine, &[], args.latest)?;
    let (name, words) = match (newest.first(), args.words.split_first()) {
        (Some(id), _) => (id, &args.words[..]),
        (None, Some((name, words))) => (name, words),
        (None, None) => {
            return Err(Failure::new(
                "you must provide the name or id of a container",
            ));
        }
    };
    let container = names::find(engine, name)?;
    let columns = columns(words)?;
    let users = Names::of(engine, &container)?;
    let mut rows = Vec::new();
    for pid in engine.container_processes(&container.id)? {
        // One that has ended meanwhile is not there.
        if let Some(process) = Process::read(pid) {
            let row = columns.iter().map(|column| process.value(column, &users));
            rows.push(row.collect());
        }
    }
    let header: Vec<&str> = columns.iter().map(|(_, title)| *title).collect();
    print!("{}", output::table(&header, &rows));
    Ok(ExitCode::SUCCESS)
}

type Column = (&'static str, &'static str);

fn columns(words: &[String]) -> Result<Vec<Column>, Failure> {
    let asked = words.iter().flat_map(|word| word.split(','));
    let mut asked: Vec<&str> = asked
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    if asked.is_empty() {
        asked = USUAL.to_vec();
    }
    let find = |word: &str| {
        let mut known = COLUMNS.iter();
        let found = known.find(|(words, _)| words.contains(&word));
        found
            .map(|(words, title)| (words[0], *title))
            .ok_or_else(|| Failure::new(format!("unknown descriptor: {word}")))
    };
    asked.into_iter().map(find).collect()
}

/// Users and groups as the container calls them.
struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    /// (inside, outside, count) of its user namespace.
    uids: Vec<(u32, u32, u32)>,
    gids: Vec<(u32, u32, u32)>,
}

impl Names {
    fn of(engine: &Engine, container: &Container) -> Result<Self, Failure> {
        let root = engine.container_files(&container.id, false)?;
        let (users, groups) = rooted::within(root.as_fd(), || {
            (listed("/etc/passwd"), listed("/etc/group"))
        })?;
        let map = |name: &str| {
            let text = container
                .pid
                .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok());
            let text = text.unwrap_or_default();
            let line = |line: &str| {
                let mut numbers = line.split_ascii_whitespace().map(str::parse);
                Some((
                    numbers.next()?.ok()?,
                    numbers.next()?.ok()?,
                    numbers.next()?.ok()?,
                ))
            };
            text.lines().filter_map(line).collect()
        };
        Ok(Self {
            users,
            groups,
            uids: map("uid_map"),
            gids: map("gid_map"),
        })
    }
}

/// The names of numbers in a file of users or groups; a file that is none has none.
fn listed(path: &str) -> HashMap<u32, String> {
    let mut text = String::new();
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    if let Some(file) = std::fs::File::open(path).ok().filter(|_| is_file) {
        let _ = file.take(PASSWD).read_to_string(&mut text);
    }
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(entry).collect()
}

fn inside(map: &[(u32, u32, u32)], outside: u32) -> u32 {
    let found = map.iter().find_map(|(inside, first, count)| {
        let offset = outside.checked_sub(*first)?;
        (offset < *count).then(|| inside.saturating_add(offset))
    });
    found.unwrap_or(outside)
}

/// What /proc tells of a process (proc_pid_stat(5), proc_pid_status(5)).
struct Process {
    pid: i32,
    /// Fields of `stat` after the name, from the state on.
    stat: Vec<String>,
    comm: String,
    args: String,
    uid: u32,
    gid: u32,
    /// In the innermost namespace.
    inner_pid: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
        let text = |name: &str| Some(String::from_utf8_lossy(&file(name)?).into_owned());
        let stat = text("stat")?;
        let (before, after) = stat.rsplit_once(") ")?;
        let comm = before.split_once('(')?.1.to_owned();
        let status = text("status")?;
        let of = |key: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(key));
            Some(line?.split_ascii_whitespace().map(str::to_owned).collect())
        };
        let uids: Vec<String> = of("Uid:")?;
        let gids: Vec<String> = of("Gid:")?;
        let pids: Vec<String> = of("NSpid:")?;
        let args = file("cmdline").unwrap_or_default();
        let args =
            String::from_utf8_lossy(args.strip_suffix(b"\0").unwrap_or(&args)).replace('\0', " ");
        Some(Self {
            pid,
            stat: after.split_ascii_whitespace().map(str::to_owned).collect(),
            args: match args.is_empty() {
                true => format!("[{comm}]"),
                false => args,
            },
            comm,
            uid: uids.get(1)?.parse().ok()?,
            gid: gids.get(1)?.parse().ok()?,
            inner_pid: pids.last()?.clone(),
        })
    }

    /// The field of that number in proc_pid_stat(5), from 3 on.
    fn field(&self, number: usize) -> u64 {
        let text = self.stat.get(number - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn value(&self, (word, _): &Column, names: &Names) -> String {
        let (uid, gid) = (inside(&names.uids, self.uid), inside(&names.gids, self.gid));
        let named = |names: &HashMap<u32, String>, id: u32| {
            names.get(&id).cloned().unwrap_or_else(|| id.to_string())
        };
        let busy = self.field(14) + self.field(15);
        let value = match *word {
            "user" => named(&names.users, uid),
            "uid" => uid.to_string(),
            "group" => named(&names.groups, gid),
            "gid" => gid.to_string(),
            "pid" => self.inner_pid.clone(),
            "ppid" => inner_pid_of(self.field(4)),
            "hpid" => self.pid.to_string(),
            "huser" => self.uid.to_string(),
            "pcpu" => {
                let lived = self.age().max(1.0 / TICKS as f64) * TICKS as f64;
                format!("{:.3}", 100.0 * busy as f64 / lived)
            }
            "etime" => elapsed(self.age() as u64),
            "time" => elapsed(busy / TICKS),
            "tty" => terminal(self.field(7)),
            "state" => self.stat.first().cloned().unwrap_or_default(),
            "nice" => self.stat.get(16).cloned().unwrap_or_default(),
            "vsz" => (self.field(23) / 1024).to_string(),
            "rss" => (self.field(24) * 4).to_string(),
            "comm" => self.comm.clone(),
            _ => self.args.clone(),
        };
        output::shown(&value).into_owned()
    }

    /// Seconds since it was started.
    fn age(&self) -> f64 {
        let up = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let up = up
            .split(' ')
            .next()
            .and_then(|text| text.parse::<f64>().ok());
        (up.unwrap_or(0.0) - self.field(22) as f64 / TICKS as f64).max(0.0)
    }
}

/// A process's number in its own namespace; 0 where that is none that the container sees.
fn inner_pid_of(pid: u64) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("NSpid:"));
    let pids: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    match pids.len() {
        0 | 1 => "0".to_owned(),
        _ => pids.last().copied().unwrap_or("0").to_owned(),
    }
}

/// As podman prints it: 1h2m3s.
fn elapsed(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A terminal by its device number.
fn terminal(number: u64) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}
