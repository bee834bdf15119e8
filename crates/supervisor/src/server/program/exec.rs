//! Commands in a program's container: the program is executed with the command's streams, or a socket for
//! its terminal, and leaves the command to this process when it ends.

use std::os::fd::OwnedFd;

use runtime::Started;
use runtime::spec::Process as Spec;

use super::super::Supervisor;
use super::super::exec::stdio;
use super::super::poller::Key;
use super::console::Console;
use super::run::{Ended, Order, Then};
use super::verbs::{exit_code, memory_file};
use super::{Child, PidFile};
use crate::error::{Error, Result};
use crate::oci_program::path_of;
use crate::protocol::{ExecWire, OciProgram, Response};
use crate::sys::process::Process;

/// A command that a program is starting.
#[derive(Debug)]
pub(in crate::server) struct ExecRun {
    beginning: Key,
    file: PidFile,
    console: Option<Console>,
}

/// Where a command is to run.
pub(in crate::server) struct Place<'a> {
    pub(in crate::server) program: &'a OciProgram,
    pub(in crate::server) id: &'a str,
    pub(in crate::server) dir: &'a std::path::Path,
}

impl Supervisor {
    /// Has a program start a command; answers the process of the run.
    pub(in crate::server) fn exec_by_program(
        &mut self,
        key: Key,
        place: &Place<'_>,
        mut process: Spec,
        (wire, fds): (ExecWire, Vec<OwnedFd>),
    ) -> Result<i32> {
        let file = PidFile::new(place.dir, key);
        let mut console = None;
        if let ExecWire::Terminal { size } = wire {
            console = Some(Console::listen(place.dir, key, size)?);
            let size = size.map(|(height, width)| runtime::spec::ConsoleSize { height, width });
            process.console_size = process.console_size.or(size);
        }
        let words = memory_file("process", &process)?;
        let mut order = Order::new(place.program, place.id, "exec");
        order.options = vec!["--detach".into(), "--process".into()];
        order.options.push(path_of(&words).into());
        order.options.push("--pid-file".into());
        order.options.push(file.path().into());
        match &console {
            Some(console) => {
                order.options.push("--console-socket".into());
                order.options.push(console.address().into());
            }
            None => order.stdio = super::create::descriptors(stdio(wire, fds)?),
        }
        order.held = Some(words);
        let run = ExecRun {
            beginning: key,
            file,
            console,
        };
        self.order(order, Then::Exec(Box::new(run)))
    }

    /// A program that was to start a command has ended.
    pub(super) fn exec_begun_by_program(&mut self, run: ExecRun, ended: Ended) {
        let made = match ended.outcome {
            Ok(()) => self.command(&run, ended.since),
            Err(failure) => Err(failure.words),
        };
        let Some(beginning) = self.beginnings.remove(&run.beginning) else {
            // Nobody waits for it any more.
            if let Ok(process) = self.made(&run.file, ended.since) {
                process.kill_with_group();
            }
            return;
        };
        match made {
            Ok((Child::Here(Process { pid, pidfd }), console)) => {
                let started = Started {
                    pid,
                    pidfd,
                    console,
                    warnings: Vec::new(),
                };
                self.exec_started(beginning, started);
            }
            Ok((Child::Ended(pid, code), console)) => {
                self.exec_was_short(&beginning, (pid, console), code);
            }
            Err(message) => {
                let exit_code = exit_code(&message);
                let failed = Response::Failed(Error::Start { message, exit_code });
                self.tell_asker(beginning.asker, failed, Vec::new());
            }
        }
    }

    /// The command that a program says it has started, with its terminal.
    fn command(
        &self,
        run: &ExecRun,
        since: u64,
    ) -> std::result::Result<(Child, Option<OwnedFd>), String> {
        let child = self.child(&run.file, since)?;
        match run.console.as_ref().map(Console::take).transpose() {
            Ok(console) => Ok((child, console)),
            Err(words) => {
                if let Child::Here(process) = child {
                    process.kill_with_group();
                }
                Err(words)
            }
        }
    }
}
