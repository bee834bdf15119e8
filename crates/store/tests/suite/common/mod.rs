//! What the store's tests share: archives built byte by byte, images made of them, and a store in
//! a directory of its own.
//!
//! Each test file uses a part of it.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file is a crate that uses a part"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod hostile;
pub mod tar;
pub mod twins;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{Descriptor, Digest, MediaType};
use store::{Document, Form, ImageRecord, Lease, NewImage, Result, Store};

pub use tar::Tar;

/// A store in a directory that goes with it.
pub struct Sandbox {
    pub store: Store,
    mounts: Mounts,
    pub dir: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mounts = Mounts(dir.path().to_owned());
        Sandbox { store, mounts, dir }
    }

    /// One whose layers are directories, whatever others have: for tests that look into them, or count them.
    pub fn unpacked() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.store.set_layer_form(Form::Directory);
        sandbox
    }

    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Waits for all that the store still does, and leaves only the directory.
    pub fn stop(self) -> tempfile::TempDir {
        drop(self.store);
        self.dir
    }

    /// Everything in the store but the database, with what tells whether it changed.
    pub fn listing(&self) -> BTreeMap<PathBuf, String> {
        self.store.settle().unwrap();
        let mut all = BTreeMap::new();
        list(self.root(), &mut all);
        all.retain(|path, _| {
            !path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("meta.sqlite")
        });
        all
    }
}

/// Unmounts, at the end of a test, what containers that it left would need.
struct Mounts(PathBuf);

impl Drop for Mounts {
    fn drop(&mut self) {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = all.lines().filter_map(|line| line.split(' ').nth(4));
        for place in places.filter(|place| Path::new(place).starts_with(&self.0)) {
            let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub fn list(dir: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        all.insert(
            entry.path(),
            format!("{:o} {size} {}", metadata.mode(), metadata.ino()),
        );
        if metadata.is_dir() {
            list(&entry.path(), all);
        }
    }
}

/// A compressed layer and what describes it.
#[derive(Clone)]
pub struct Layer {
    pub bytes: Vec<u8>,
    pub descriptor: Descriptor,
    pub diff_id: Digest,
}

impl Layer {
    pub fn gzip(archive: &[u8]) -> Layer {
        Layer::of(archive, gzip(archive), MediaType::OciLayerGzip)
    }

    pub fn zstd(archive: &[u8]) -> Layer {
        Layer::of(
            archive,
            zstd::encode_all(archive, 3).unwrap(),
            MediaType::OciLayerZstd,
        )
    }

    pub fn plain(archive: &[u8]) -> Layer {
        Layer::of(archive, archive.to_vec(), MediaType::OciLayer)
    }

    pub fn of(archive: &[u8], bytes: Vec<u8>, media_type: MediaType) -> Layer {
        Layer {
            descriptor: Descriptor::of(media_type, &bytes),
            diff_id: Digest::of(archive),
            bytes,
        }
    }

    pub fn add(&self, store: &Store, lease: &Lease) -> Result<()> {
        store.add_layer(
            lease,
            &self.descriptor,
            &self.diff_id,
            self.bytes.as_slice(),
        )
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The documents of an image of these layers; `salt` makes its config unique.
pub fn describe(layers: &[Layer], names: &[&str], salt: &str) -> NewImage {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    let config = serde_json::json!({
        "created": "2024-05-06T07:08:09.5Z", "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "User": "1000", "Labels": {"salt": salt}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Document::new(MediaType::OciConfig, serde_json::to_vec(&config).unwrap());
    let layers = layers.iter().map(|layer| layer.descriptor.clone());
    documents(config, layers.collect(), names)
}

/// The documents of what has this config and these layers.
pub fn documents(config: Document, layers: Vec<Descriptor>, names: &[&str]) -> NewImage {
    let manifest = image::Manifest::new(MediaType::OciManifest, config.descriptor.clone(), layers);
    NewImage {
        manifest: Document::new(
            MediaType::OciManifest,
            serde_json::to_vec(&manifest).unwrap(),
        ),
        config,
        index: None,
        inner: Vec::new(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        signatures: Vec::new(),
    }
}

/// Adds an image of these layers, lowest first.
pub fn put(store: &Store, layers: &[Layer], names: &[&str], salt: &str) -> ImageRecord {
    let lease = store.lease().unwrap();
    for layer in layers {
        layer.add(store, &lease).unwrap();
    }
    store
        .put_image(&lease, describe(layers, names, salt))
        .unwrap()
}

/// The same, each layer in its form.
pub fn put_as(store: &Store, layers: &[Layer], forms: &[Form], names: &[&str]) -> ImageRecord {
    let lease = store.lease().unwrap();
    for (layer, form) in layers.iter().zip(forms) {
        store.set_layer_form(*form);
        layer.add(store, &lease).unwrap();
    }
    let new = describe(layers, names, "in its form");
    let record = store.put_image(&lease, new).unwrap();
    let found = store.layers_of(&record).unwrap();
    let mut found: Vec<Form> = found.iter().map(store::Layer::form).collect();
    found.reverse();
    assert_eq!(found, forms);
    record
}

/// Unpacks one archive and returns where it lies; in the other form it is the same tree.
pub fn unpack(store: &Store, archive: &[u8]) -> PathBuf {
    store.set_layer_form(Form::Directory);
    let record = put(
        store,
        &[Layer::gzip(archive)],
        &["example.com/one:latest"],
        "one",
    );
    twins::same_in_the_other_form(archive, &store.layers_of(&record).unwrap()[0]);
    top_of(store, &record)
}

/// Where a layer lies that is a directory: nobody but a test asks, and it may change or remove what is there.
///
/// Any other form has no such place: its root is that of a mount that is nowhere, whose path reads as `/`.
pub fn place(layer: &store::Layer) -> PathBuf {
    assert_eq!(layer.form(), Form::Directory, "it has no place");
    let open = layer.open(store::Purpose::Directory).unwrap();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).unwrap();
    let parent = path.parent().and_then(Path::file_name);
    assert_eq!(parent, Some("layers".as_ref()), "{path:?} is no layer's");
    path
}

/// Gives a file of a layer other content, as a new file: one that is sealed cannot be written.
pub fn change(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Where a container writes.
pub fn upper(root: &store::RootFilesystem) -> PathBuf {
    root.overlay_paths().unwrap().upper
}

/// Where an image's topmost layer lies.
pub fn top_of(store: &Store, record: &ImageRecord) -> PathBuf {
    place(&store.layers_of(record).unwrap()[0])
}

/// Runs a test of this very program again in a child, where `FLOE_TEST_CHILD` is `role`.
pub fn child(test: &str, role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = in_its_module(test);
    command.args(["--exact", &test, "--nocapture", "--test-threads=1"]);
    command
        .env("FLOE_TEST_CHILD", role)
        .env("FLOE_TEST_ROOT", root);
    command
}

/// A test's name with its module: a name that fits none would run nothing, and be no failure.
fn in_its_module(test: &str) -> String {
    let listed = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    let found = names.find(|name| name.rsplit("::").next() == Some(test));
    found.unwrap_or_else(|| panic!("no test {test}")).to_owned()
}

/// In a child made by [`child`]: its role and root.
pub fn role() -> Option<(String, PathBuf)> {
    let role = std::env::var("FLOE_TEST_CHILD").ok()?;
    Some((
        role,
        PathBuf::from(std::env::var_os("FLOE_TEST_ROOT").unwrap()),
    ))
}

/// Runs `test` again in a mount namespace of its own; there it returns `true` and the body runs.
pub fn in_private_mounts(test: &str) -> bool {
    if role().is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let itself = child(test, "private", dir.path());
    let mut command = Command::new("unshare");
    command
        .arg("--mount")
        .arg(itself.get_program())
        .args(itself.get_args());
    command.envs(
        itself
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = expect_success(&mut command);
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("1 passed"), "{output}");
    // Behind the test's name, where it is the first that was said.
    let skips = output
        .lines()
        .filter_map(|line| line.find("SKIP: ").map(|at| &line[at..]));
    skips.for_each(|skip| println!("{skip}"));
    false
}

/// The program's path if it is installed; says that the test is skipped if not.
pub fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

pub fn expect_success(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        shown(&output.stdout),
        shown(&output.stderr)
    );
    output
}

/// Runs something in this thread, and returns what it warned of meanwhile.
pub fn warnings<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    #[derive(Clone, Default)]
    struct Heard(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
    struct Message<'a>(&'a Heard);
    impl tracing::field::Visit for Message<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }
    impl tracing::Subscriber for Heard {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::WARN
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut Message(self));
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let heard = Heard::default();
    let result = tracing::subscriber::with_default(heard.clone(), run);
    let words = heard.0.lock().unwrap().clone();
    (result, words)
}
