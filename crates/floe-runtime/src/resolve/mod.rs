//! `floe-runtime resolve STATE POD HOST-NAMESPACE [SERVER]…`: the resolver of one pod, in the pod's network
//! namespace and cgroup, with which it ends. Its supervisor begins it as a companion; it goes on by itself once it
//! listens, which is when this command ends. Names of containers on the pod's networks are answered here
//! ([`names`]), all else is asked of the host's servers, from the host's network ([`upstream`]). What it answers is the
//! pod's own affair: whatever the pod sends costs this process alone, within limits.

mod message;
mod names;
mod serve;
mod upstream;

use std::ffi::OsString;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;

use base::clone::clone3;
use names::Names;
use rustix::process::{PidfdFlags, pidfd_open};
use serve::Resolver;
use upstream::Namespaces;

/// Where it listens: in the loopback network, as no container has anything else there.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of DNS.
const PORT: u16 = 53;
/// The exit code where another one listens there.
const RUNS: u8 = 3;

/// Listens, and leaves a process that answers.
pub(crate) fn resolve(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match begin(arguments) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn begin(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let words: Vec<String> = arguments
        .map(|word| {
            word.into_string()
                .map_err(|word| format!("{word:?} is not UTF-8"))
        })
        .collect::<Result<_, _>>()?;
    let [state, pod, host, servers @ ..] = &words[..] else {
        return Err("resolve STATE POD HOST-NAMESPACE [SERVER]...".into());
    };
    let server = |text: &String| {
        let ip = text.parse::<IpAddr>();
        ip.map_err(|_| format!("{text:?} is not an address"))
    };
    let servers: Vec<IpAddr> = servers.iter().map(server).collect::<Result<_, _>>()?;
    let open = |path: &str| File::open(path).map_err(|error| format!("open {path}: {error}"));
    let namespaces = Namespaces {
        host: open(host)?.into(),
        own: open("/proc/self/ns/net")?.into(),
    };
    // It is the parent of what this leaves, too: its end is the pod's.
    let supervisor = rustix::process::getppid()
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|error| format!("watch the supervisor: {error}"))?;
    let at = SocketAddr::from((ADDRESS, PORT));
    let udp = match UdpSocket::bind(at) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Ok(ExitCode::from(RUNS));
        }
        other => other.map_err(|error| format!("listen on {at}: {error}"))?,
    };
    let tcp = TcpListener::bind(at).map_err(|error| format!("listen on {at}: {error}"))?;
    let names = Names::new(PathBuf::from(state), pod.clone());
    let resolver = Resolver::new(udp, tcp, names, namespaces, servers, supervisor)
        .map_err(|error| format!("listen on {at}: {error}"))?;
    // SAFETY: the process has one thread from its beginning on, and the flags share nothing.
    match unsafe { clone3(0, libc::SIGCHLD, None) } {
        Ok(Some(_)) => Ok(ExitCode::SUCCESS),
        Ok(None) => {
            detach();
            Ok(resolver.run())
        }
        Err(error) => Err(format!("fork: {error}")),
    }
}

/// Nothing of who began it is held any longer.
fn detach() {
    let _ = rustix::thread::set_name(c"floe-resolver");
    // A signal to the companion's session is not for it.
    let _ = rustix::process::setsid();
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = std::env::set_current_dir("/");
}
