//! Descriptors: closing those of others, and messages with descriptors over a socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};

/// Closes every descriptor from 3 on but `keep`: only ever called in a process made by
/// [`super::clone_process`], which owns none of what it closes and uses none of it again.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let mut kept: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > first {
            close_range(first, fd - 1, 0);
        }
        first = fd.saturating_add(1);
    }
}

/// Marks every descriptor from `first` on to be closed by execve.
pub(crate) fn cloexec_from(first: u32) {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
}

fn close_range(first: u32, last: u32, flags: u32) {
    // SAFETY: integers only. The descriptors are this process's copies of what its parent owns;
    // their owners' destructors never run here (see `close_all_but`).
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Makes a descriptor ours that the caller of this program passed on under this number, which must
/// be no standard stream. Only ever called before this program has opened any itself.
pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl with integers; a number that is no open descriptor is refused.
    let open = number > 2 && unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    if !open {
        return Err(Errno::BADF);
    }
    // SAFETY: it is open, and nobody in this program knows of it yet (see above).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends one message with at most one descriptor over a SOCK_SEQPACKET socket.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL))
        .map(|_| ())
}

/// Receives one message; an empty one is the other side's end. Without `wait` it is EAGAIN that
/// there is none.
pub(crate) fn receive(socket: impl AsFd, wait: bool) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
    let wait = if wait {
        RecvFlags::empty()
    } else {
        RecvFlags::DONTWAIT
    };
    // Asked first: a buffer for the longest would be 16 fresh pages each time.
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | wait;
    let (_, length) = rustix::io::retry_on_intr(|| recv(&socket, &mut [0_u8; 0][..], flags))?;
    let mut bytes = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    bytes.truncate(received);
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, fd))
}
