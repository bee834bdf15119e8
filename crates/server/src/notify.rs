//! Telling the service manager how we are (sd_notify(3)). Silent where nobody asked.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service is up, or up again.
pub fn ready() {
    send("READY=1");
}

/// The configuration is read again, as `Type=notify-reload` wants it; [`ready`] follows.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// Sends a state such as `READY=1` to the socket that `NOTIFY_SOCKET` names, if it names one.
/// A manager that cannot be told is a warning: pods can run without it.
pub(crate) fn send(state: &str) {
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send_to(&name, state) {
        tracing::warn!(%error, socket = name, state, "cannot tell the service manager");
    }
}

fn send_to(name: &str, state: &str) -> std::io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("make a directory");
        let path = dir.path().join("notify");
        let unused = format!("floe-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&unused).expect("a short name");
        let receivers = [
            (path.display().to_string(), UnixDatagram::bind(&path)),
            (
                format!("@{unused}"),
                UnixDatagram::bind_addr(&abstract_address),
            ),
        ];
        for (name, receiver) in receivers {
            let receiver = receiver.expect("bind a datagram socket");
            send_to(&name, "READY=1").expect("send");
            let mut buffer = [0; 16];
            let length = receiver.recv(&mut buffer).expect("receive");
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_not_a_hang() {
        let dir = tempfile::tempdir().expect("a directory");
        let absent = dir.path().join("notify").display().to_string();
        assert!(send_to(&absent, "READY=1").is_err());
    }
}
