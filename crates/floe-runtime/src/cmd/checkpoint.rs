//! `checkpoint`: the images of a running container, by criu; the container goes, unless it is to go on.

use std::path::{Path, PathBuf};

use runtime::cgroup::Cgroup;
use runtime::criu::{CgroupMode, Checkpoint, PageServer, Settings, StatusFd};

use super::{Failure, Outcome, delete};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of `checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
    #[command(flatten)]
    shared: Shared,
    /// Directory of the checkpoint before, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    leave_running: bool,
    /// Skip TCP connections that are being established
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Give unlinked files a name again where possible
    #[arg(long)]
    link_remap: bool,
    /// Descriptor that gets a NUL byte once pages can be asked for
    #[arg(long, allow_hyphen_values = true, default_value_t = -1, value_name = "FD")]
    status_fd: i32,
    /// Server that takes the memory, ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Write the memory only and let the container run on
    #[arg(long)]
    pre_dump: bool,
}

/// Options that `checkpoint` and `restore` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Shared {
    /// Directory of the images [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Directory of criu's log [default: --image-path]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow unix sockets of others
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow processes of a session of others
    #[arg(long)]
    shell_job: bool,
    /// Take the memory on demand (userfaultfd)
    #[arg(long)]
    lazy_pages: bool,
    /// Handle file locks
    #[arg(long)]
    file_locks: bool,
    /// What is done with cgroups: soft (default), full, strict, ignore
    #[arg(
        long,
        value_name = "MODE",
        default_value = "",
        hide_default_value = true
    )]
    manage_cgroups_mode: String,
    /// A namespace whose properties are left out: network, which always is
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Keep each page in one image only
    #[arg(long)]
    auto_dedup: bool,
}

impl Shared {
    pub(crate) fn settings(&self, global: &Global) -> Result<Settings, Failure> {
        if let Some(other) = self.empty_ns.iter().find(|name| *name != "network") {
            return Err(Failure::new(format!(
                "--empty-ns: namespace {other:?} is not supported"
            )));
        }
        let cgroups = match self.manage_cgroups_mode.as_str() {
            "" | "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            "ignore" => CgroupMode::Ignore,
            other => {
                return Err(Failure::new(format!(
                    "invalid manage-cgroups-mode value {other:?} (soft, full, strict, ignore)"
                )));
            }
        };
        let images = match &self.image_path {
            Some(path) if !path.as_os_str().is_empty() => path.clone(),
            _ => PathBuf::from("checkpoint"),
        };
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(Failure::at(format_args!("{}", path.display())))
        };
        let work = self
            .work_path
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty());
        Ok(Settings {
            program: global.criu.clone(),
            images: absolute(&images)?,
            work: work.map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroups,
        })
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    // First of all: the number could become that of something opened here.
    let status = match args.status_fd {
        -1 => None,
        number => Some(StatusFd::take(number)?),
    };
    let state = State::load(global, &args.id)?;
    let found = state.status(global);
    if !matches!(found, Status::Running | Status::Paused) {
        return Err(Failure::new(format!(
            "Container cannot be checkpointed in {} state",
            found.word()
        )));
    }
    let settings = args.shared.settings(global)?;
    let cgroup = Cgroup::open(&state.cgroup)?;
    Checkpoint {
        settings: &settings,
        spec: &state.spec,
        bundle: &state.bundle,
        rootfs: &state.rootfs,
        pid: state.init_process_pid,
        cgroup: &cgroup,
        descriptors: &state.external_descriptors,
        pre_dump: args.pre_dump,
        leave_running: args.leave_running,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        parent: parent(args.parent_path.as_deref(), &settings.images)?,
        page_server: args.page_server.as_deref().map(page_server).transpose()?,
        status,
    }
    .take()?;
    if !args.pre_dump && !args.leave_running {
        delete::delete(global, &state)?;
    }
    Ok(0)
}

/// As criu takes it: relative to the images.
fn parent(path: Option<&Path>, images: &Path) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    if path.is_absolute() {
        return Err(Failure::new("--parent-path must be relative"));
    }
    // The images may be where nothing is yet, beside their parent.
    std::fs::create_dir_all(images).map_err(Failure::at(images.display()))?;
    let there = images.join(path);
    let wrong = || Failure::at(format!("invalid --parent-path: {}", there.display()));
    let found = std::fs::metadata(&there).map_err(wrong())?;
    if !found.is_dir() {
        return Err(wrong()(std::io::ErrorKind::NotADirectory.into()));
    }
    Ok(Some(path.to_owned()))
}

fn page_server(text: &str) -> Result<PageServer, Failure> {
    let form = || Failure::new("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(form)?;
    let address = match address.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(form)?,
        None if address.contains(':') => return Err(form()),
        None => address,
    };
    if address.is_empty() || port.is_empty() {
        return Err(form());
    }
    let port = port
        .parse()
        .map_err(|_| Failure::new(format!("--page-server: invalid port number {port:?}")))?;
    Ok(PageServer {
        address: address.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::page_server;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let told = |text: &str| match page_server(text) {
            Ok(one) => (one.address, one.port.to_string()),
            Err(error) => ("refused".into(), error.to_string()),
        };
        assert_eq!(told("127.0.0.1:27"), ("127.0.0.1".into(), "27".into()));
        assert_eq!(told("[::1]:27"), ("::1".into(), "27".into()));
        for wrong in ["host", ":27", "host:", "::1:27", "[::1:27"] {
            assert!(told(wrong).1.contains("ADDRESS:PORT"), "{wrong}");
        }
        for wrong in ["x", "70000"] {
            let said = told(&format!("host:{wrong}")).1;
            assert!(said.contains(&format!("port number \"{wrong}\"")), "{said}");
        }
    }
}
