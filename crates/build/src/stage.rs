//! A stage: what it stands on, and its steps one after the other.

mod cached;
mod commands;
mod mounts;

use containerfile::{Copy, Expander, Instruction, Kind, Text};
use image::config::History;
use image::{AnyManifest, Digest};
use store::{Access, ImageRecord, WorkingLayer};

use crate::archive::Unpacker;
use crate::copy::{self, Item, Order};
use crate::error::{Failed, Result};
use crate::image_of::history;
use crate::plan::Build;
use crate::source;
use crate::state::{Layer, State};
use crate::tree::Tree;
use crate::{Layers, Surroundings, image_of};

pub(crate) use mounts::Mounts;

/// Larger manifests are none of an image's.
const MANIFEST: u64 = 16 << 20;
/// What stands in the history before what is no command.
const NOP: &str = "/bin/sh -c #(nop) ";

/// A stage that is being built.
pub(crate) struct Stage<'b, 'a> {
    build: &'b Build<'a>,
    number: usize,
    state: State,
    working: Option<WorkingLayer>,
    tree: Option<Tree>,
    /// The working layer has something that no layer has.
    changed: bool,
    /// What its first line of history says of its base.
    comment: Option<String>,
    /// Steps that were begun, and all.
    steps: (usize, usize),
}

impl<'b, 'a> Stage<'b, 'a> {
    /// Builds a stage to its end.
    pub(crate) fn build(build: &'b Build<'a>, number: usize, is_target: bool) -> Result<State> {
        let stage = &build.request.file.stages[number];
        let file = &build.request.file.file;
        let failed = |failed: Failed| failed.at(file, stage.line, &stage.text);
        let more = [&build.request.environment, &build.request.labels];
        let more = more
            .iter()
            .filter(|pairs| is_target && !pairs.is_empty())
            .count();
        let total = stage.instructions.len() + 1 + more;
        build
            .watch
            .step(build.place(number), (1, total), &stage.text);
        let (state, triggers) = base(build, number).map_err(failed)?;
        let mut this = Stage {
            build,
            number,
            comment: state.base.as_ref().map(|(name, _)| format!("FROM {name}")),
            state,
            working: None,
            tree: None,
            changed: false,
            steps: (1, total + triggers.len()),
        };
        for trigger in &triggers {
            let origin = format!("ONBUILD of {}", stage.from.image.raw);
            let instruction = containerfile::parse_instruction(&origin, trigger)?;
            this.instruction(&origin, &instruction)?;
        }
        for instruction in &stage.instructions {
            this.instruction(file, instruction)?;
        }
        if is_target {
            this.additions().map_err(failed)?;
        }
        this.finish(is_target).map_err(failed)
    }

    fn instruction(&mut self, file: &str, instruction: &Instruction) -> Result<()> {
        let failed = |failed: Failed| failed.at(file, instruction.line, &instruction.text);
        if self.build.cancel.is_stopped() {
            return Err(failed(Failed::Interrupted));
        }
        self.begin(&instruction.text);
        self.step(instruction).map_err(failed)
    }

    fn begin(&mut self, text: &str) {
        self.steps.0 += 1;
        let place = self.build.place(self.number);
        self.build.watch.step(place, self.steps, text);
    }

    fn step(&mut self, instruction: &Instruction) -> Result<(), Failed> {
        match &instruction.kind {
            Kind::Run(run) => self.run(run, &instruction.text),
            Kind::Copy(copy) => self.copy(copy, false),
            Kind::Add(copy) => self.copy(copy, true),
            kind => {
                self.state
                    .configure(&self.build.given, self.escape(), kind)?;
                let said = said(kind, &instruction.text);
                match kind {
                    Kind::Workdir(_) => self.working_directory(said),
                    _ => {
                        self.empty(said);
                        Ok(())
                    }
                }
            }
        }
    }

    fn escape(&self) -> char {
        self.build.request.file.escape
    }

    /// The root file system, for writing.
    fn root(&mut self) -> Result<&Tree, Failed> {
        let store = self.build.engine.store();
        if self.working.is_none() {
            self.working = Some(store.working_layer(&self.state.diff_ids())?);
        }
        if self.tree.is_none()
            && let Some(working) = &self.working
        {
            self.tree = Some(source::mounted(working.root(), Access::Durable)?);
        }
        self.tree
            .as_ref()
            .ok_or_else(|| "there is no root file system".into())
    }

    /// A step that changed the configuration alone.
    fn empty(&mut self, said: String) {
        let line = self.line(format!("{NOP}{said}"), true);
        self.state.history.push(line);
        if self.build.request.layers == Layers::Steps {
            self.tell();
        }
    }

    fn line(&mut self, created_by: String, empty: bool) -> History {
        let comment = self.comment.take();
        let mut line = history(self.build.request.created, created_by, comment, empty);
        line.author.clone_from(&self.state.author);
        line
    }

    /// Says what the stage is now.
    fn tell(&self) {
        let words = serde_json::to_vec(&self.state.config).unwrap_or_default();
        let mut hasher = Digest::hasher();
        hasher.update(&words);
        for diff_id in self.state.diff_ids() {
            hasher.update(diff_id.to_string().as_bytes());
        }
        let id = hasher.finish();
        self.build
            .watch
            .made(self.build.place(self.number), id.hex());
    }

    /// A step that may have changed files: it has a layer of its own, or its stage has one.
    fn changed(&mut self, created_by: String, has_changed: bool) -> Result<(), Failed> {
        self.changed |= has_changed;
        let own = self.build.request.layers == Layers::Steps && has_changed;
        let line = self.line(created_by, !own);
        self.state.history.push(line);
        if own {
            self.layer()?;
        }
        if self.build.request.layers == Layers::Steps {
            self.tell();
        }
        Ok(())
    }

    /// Makes a layer of what the working layer has.
    fn layer(&mut self) -> Result<(), Failed> {
        self.tree = None;
        let Some(working) = self.working.take() else {
            return Ok(());
        };
        let new = working.commit(&self.build.lease, self.build.request.times)?;
        self.state.layers.push(Layer {
            blob: new.blob,
            diff_id: new.diff_id,
        });
        self.changed = false;
        Ok(())
    }

    fn working_directory(&mut self, said: String) -> Result<(), Failed> {
        let path = self.state.config.working_dir.clone();
        let user = self.state.config.user.clone();
        let mut key = self.key("directory");
        key.add(&path);
        key.add(&user);
        self.layered(key, format!("{NOP}{said}"), |stage| {
            let root = stage.root()?;
            let owner = match user.is_empty() {
                true => (0, 0),
                false => copy::who(root, &user).unwrap_or((0, 0)),
            };
            copy::make_directory(root, &path, owner)
        })
    }

    fn word(&self, text: &Text) -> Result<String, Failed> {
        self.state.word(self.escape(), text)
    }

    fn copy(&mut self, copy: &Copy, is_add: bool) -> Result<(), Failed> {
        let escape = self.escape();
        let (sources, target) = copy::values(&self.state, escape, copy)?;
        let mut order = Order::new(&self.state, escape, copy, &target, is_add)?;
        let origin = match copy::flag(&self.state, escape, copy, "from")? {
            Some(_) if is_add => return Err("--from is COPY's alone".into()),
            Some(name) => Some(self.build.named(&name)?),
            None => None,
        };
        for (text, word) in copy.arguments.sources.iter().zip(sources) {
            let item = self.item(copy, is_add, text, word)?;
            order.items.push(item);
        }
        let reads = order
            .items
            .iter()
            .any(|item| matches!(item, Item::Files { .. }));
        let origin = match origin {
            None if reads => Some(self.build.context()?),
            other => other,
        };
        let (tree, ignore, is_image) = match origin {
            Some(origin) => (Some(origin.tree), origin.ignore, origin.is_image),
            None => (None, containerfile::Ignore::default(), false),
        };
        order.filter.ignore = ignore;
        order.keep_owners = is_image;
        let digest = order.digest(tree.as_ref())?;
        let kind = order.kind(tree.as_ref())?;
        let word = if is_add { "ADD" } else { "COPY" };
        let said = format!("{NOP}{word} {kind}:{} in {target} ", digest.hex());
        let mut key = self.key("copy");
        key.add(&digest.to_string());
        self.layered(key, said, |stage| {
            let store = stage.build.engine.store().clone();
            order.run(tree.as_ref(), stage.root()?, &Unpacker { store: &store })?;
            Ok(true)
        })
    }

    fn item(&self, copy: &Copy, is_add: bool, text: &Text, word: String) -> Result<Item, Failed> {
        if let Some(document) = copy
            .documents
            .iter()
            .find(|document| document.word == text.raw)
        {
            let lookup = |name: &str| self.state.variable(name);
            let content = match document.expand {
                true => Expander::new(self.escape(), &lookup).document(&document.content)?,
                false => document.content.clone(),
            };
            return Ok(Item::Document {
                name: document.name.clone(),
                content,
            });
        }
        let is_url = word.starts_with("http://") || word.starts_with("https://");
        match is_add {
            true if word.starts_with("git@")
                || word.starts_with("git://")
                || is_url && word.contains(".git") =>
            {
                Err(format!("{word}: git repositories are not offered as a source").into())
            }
            true if is_url => self.fetched(copy, &word),
            _ => {
                if copy.flags.get("checksum").is_some() {
                    return Err("--checksum is for URLs".into());
                }
                Ok(Item::Files { word })
            }
        }
    }

    fn fetched(&self, copy: &Copy, url: &str) -> Result<Item, Failed> {
        let checksum = copy::flag(&self.state, self.escape(), copy, "checksum")?;
        fetched(self.build.around, url, checksum.as_deref())
    }

    /// What the command line adds to the last stage.
    fn additions(&mut self) -> Result<(), Failed> {
        let quoted = |pairs: &[(String, String)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{key:?}={value:?}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let request = self.build.request;
        if !request.environment.is_empty() {
            let text = format!("ENV {}", quoted(&request.environment));
            self.begin(&text);
            for (name, value) in &request.environment {
                crate::variables::set_in(&mut self.state.config.env, name, value)?;
            }
            self.empty(text);
        }
        if !request.labels.is_empty() {
            let text = format!("LABEL {}", quoted(&request.labels));
            self.begin(&text);
            self.state.config.labels.extend(request.labels.clone());
            self.empty(text);
        }
        Ok(())
    }

    fn finish(mut self, is_target: bool) -> Result<State, Failed> {
        match self.build.request.layers {
            Layers::Steps => {}
            Layers::One if is_target => self.flatten()?,
            Layers::Stages | Layers::One => {
                if self.changed {
                    self.layer()?;
                    let own = &mut self.state.history[self.state.inherited..];
                    if let Some(last) = own.last_mut() {
                        last.empty_layer = false;
                    }
                }
                if !is_target {
                    self.tell();
                }
            }
        }
        Ok(self.state)
    }

    /// All that there is as one layer.
    fn flatten(&mut self) -> Result<(), Failed> {
        let store = self.build.engine.store().clone();
        let build = self.build;
        let times = build.request.times;
        let root = self.root()?;
        let new = store.write_layer(&build.lease, |out| {
            store.write_directory_with(times, root.fd(), "of a build", out)
        })?;
        self.state.layers = vec![Layer {
            blob: new.blob,
            diff_id: new.diff_id,
        }];
        for line in &mut self.state.history {
            line.empty_layer = true;
        }
        match self.state.history.last_mut() {
            Some(last) => last.empty_layer = false,
            None => {
                let line = self.line(format!("{NOP}FROM scratch"), false);
                self.state.history.push(line);
            }
        }
        Ok(())
    }
}

/// What is at a URL, to be copied.
pub(crate) fn fetched(
    around: &dyn Surroundings,
    url: &str,
    checksum: Option<&str>,
) -> Result<Item, Failed> {
    let mut content = tempfile::tempfile().map_err(Failed::io("make", "a temporary file"))?;
    let modified = around.fetch(url, &mut content)?;
    let digest = of_file(&mut content).map_err(Failed::io("read", url))?;
    if let Some(wanted) = checksum
        && wanted != digest.to_string()
    {
        return Err(format!("{url} has the digest {digest}, and --checksum wants {wanted}").into());
    }
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path
        .splitn(4, '/')
        .nth(3)
        .and_then(|path| path.rsplit('/').next());
    let name = name.filter(|name| !name.is_empty() && *name != ".." && *name != ".");
    Ok(Item::Fetched {
        name: name
            .ok_or_else(|| format!("{url} has no name of a file"))?
            .to_owned(),
        content,
        digest,
        modified: modified.unwrap_or(0),
    })
}

fn of_file(file: &mut std::fs::File) -> std::io::Result<Digest> {
    use std::io::{Read, Seek};
    file.rewind()?;
    let mut hasher = Digest::hasher();
    let mut chunk = vec![0; 128 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => hasher.update(&chunk[..length]),
        }
    }
    file.rewind()?;
    Ok(hasher.finish())
}

/// An instruction as the history has it.
fn said(kind: &Kind, text: &str) -> String {
    let rest = text
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim_start());
    match kind {
        // What a default is may be a secret of the file's.
        Kind::Arg(arguments) => {
            let names: Vec<&str> = arguments.iter().map(|(name, _)| name.as_str()).collect();
            format!("ARG {}", names.join(" "))
        }
        kind => format!("{} {rest}", kind.word()),
    }
}

/// A command as the history has it: with the arguments that it saw.
fn command_said(arguments: &[(String, String)], text: &str) -> String {
    let rest = text
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim_start());
    let line = format!("/bin/sh -c {rest}");
    match arguments.is_empty() {
        true => line,
        false => {
            let said: Vec<String> = arguments
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("|{} {} {line}", arguments.len(), said.join(" "))
        }
    }
}

/// What a stage stands on, and what its image wants done first.
fn base(build: &Build<'_>, number: usize) -> Result<(State, Vec<String>), Failed> {
    let file = &build.request.file;
    let from = &file.stages[number].from;
    let lookup = |name: &str| build.global.global_value(&build.given, name);
    let expander = Expander::new(file.escape, &lookup);
    let name = expander.word(&from.image)?;
    if name.is_empty() {
        return Err("the name of the image is empty".into());
    }
    let platform = from
        .platform
        .as_ref()
        .map(|text| expander.word(text))
        .transpose()?;
    let platform = platform.map(|text| image_of::platform(&text)).transpose()?;
    let scope = build.global.of_stage();
    let earlier = file.stage(&name).filter(|earlier| *earlier < number);
    if let Some(state) = earlier.and_then(|earlier| build.done(earlier)) {
        return Ok(with_triggers(State::on(state, scope)));
    }
    let wanted = platform.as_ref().unwrap_or(&build.request.platform);
    let (named, record) = match build.image_named(&name) {
        Some(other) => (other.to_owned(), build.image(other, Some(wanted))?),
        None if name == "scratch" => {
            return Ok((State::scratch(wanted.clone(), scope), Vec::new()));
        }
        None => (name.clone(), build.image(&name, Some(wanted))?),
    };
    Ok(with_triggers(of_image(
        build.engine,
        &named,
        &record,
        scope,
    )?))
}

fn with_triggers(mut state: State) -> (State, Vec<String>) {
    let triggers = std::mem::take(&mut state.config.on_build);
    (state, triggers)
}

/// A stage on an image.
pub(crate) fn of_image(
    engine: &engine::Engine,
    name: &str,
    record: &ImageRecord,
    scope: crate::variables::Scope,
) -> Result<State, Failed> {
    if record.read_only {
        return Err(format!("{name} is in an additional store: pull it to build on it").into());
    }
    let store = engine.store();
    let config = store.image_config(record)?;
    let manifest = store.read_blob(&record.manifest_digest, MANIFEST)?;
    let manifest = manifest.ok_or_else(|| format!("the manifest of {name} is not kept"))?;
    let AnyManifest::Manifest(manifest) =
        AnyManifest::parse(None, &manifest).map_err(|e| e.to_string())?
    else {
        return Err(format!("{name} is no single image").into());
    };
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(format!("{name} has other layers than its configuration says").into());
    }
    let layers = manifest
        .layers
        .into_iter()
        .zip(config.rootfs.diff_ids.clone());
    let layers = layers
        .map(|(blob, diff_id)| Layer { blob, diff_id })
        .collect();
    let named = record.names.first().map_or(name, String::as_str);
    let mut state = State::scratch(config.platform(), scope);
    if !config.config.env.is_empty() {
        state.config.env.clear();
    }
    let env = std::mem::take(&mut state.config.env);
    state.inherited = config.history.len();
    state.layers = layers;
    state.author = config.author;
    state.history = config.history;
    state.config = config.config;
    state.config.env.splice(0..0, env);
    state.base = Some((named.to_owned(), record.manifest_digest.to_string()));
    Ok(state)
}
