//! A network of one's own: the calling thread and every process it starts from then on see only
//! this network, so that bridges, rules and ports of tests never meet those of the machine.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::Error;

/// Moves the calling thread into a new network namespace with loopback up.
///
/// # Errors
/// Not root, or the kernel refuses.
pub fn isolate() -> Result<(), Error> {
    // SAFETY: a new network namespace changes nothing that memory safety rests on; sockets that
    // exist keep theirs.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
    loopback_up()
}

/// Moves the calling thread into a mount namespace of its own and takes the v2 hierarchy away there,
/// if the host has it beside v1: crun refuses to work on such a host.
///
/// # Errors
/// Not root, or the kernel refuses.
pub fn without_hybrid_cgroups() -> Result<(), Error> {
    let unified = "/sys/fs/cgroup/unified";
    // SAFETY: a new mount namespace changes nothing that memory safety rests on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    if std::path::Path::new(unified).exists() {
        unmount(unified, UnmountFlags::DETACH)?;
    }
    Ok(())
}

fn loopback_up() -> Result<(), Error> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
    // SAFETY: an all-zero ifreq is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the fd is an open socket and the argument an initialised ifreq that outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if done != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// The body of `GET /` at an address, tried until the server listens (5 s at most).
///
/// # Errors
/// Nobody listens, or what answers is not HTTP.
pub fn http_get(ip: IpAddr, port: u16) -> Result<String, Error> {
    let address = SocketAddr::new(ip, port);
    let mut last = None;
    for _ in 0..100 {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(stream) => return read_body(stream, ip),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!(
        "connect to {address}: {}",
        last.map_or_else(String::new, |e| e.to_string())
    )
    .into())
}

fn read_body(mut stream: TcpStream, host: IpAddr) -> Result<String, Error> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("not HTTP: {answer:?}"))?;
    Ok(body.to_owned())
}
