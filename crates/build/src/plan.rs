//! The whole of a build: which stages are needed, one after the other, and the image at the end.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use containerfile::{Containerfile, Kind, Mount, MountKind};
use engine::Engine;
use image::Platform;
use store::{ImageRecord, Lease};

use crate::error::{Error, Failed, Result};
use crate::pods::Pods;
use crate::stage::Stage;
use crate::state::State;
use crate::variables::{Given, Scope};
use crate::{Cancel, Context, Request, Surroundings, Watch};

/// A build under way.
pub(crate) struct Build<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a Request,
    pub(crate) around: &'a dyn Surroundings,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) cancel: &'a Cancel,
    pub(crate) given: Given,
    pub(crate) global: Scope,
    /// Holds what is built until the image does.
    pub(crate) lease: Lease,
    pub(crate) pods: Pods<'a>,
    done: Vec<Option<State>>,
    images: RefCell<HashMap<(String, Option<String>), ImageRecord>>,
}

impl<'a> Build<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        request: &'a Request,
        around: &'a dyn Surroundings,
        watch: &'a dyn Watch,
        cancel: &'a Cancel,
    ) -> Result<Build<'a>> {
        let mut build = Build {
            engine,
            request,
            around,
            watch,
            cancel,
            given: Given::new(request.arguments.clone(), &request.platform),
            global: Scope::default(),
            lease: engine.store().lease()?,
            pods: Pods::new(engine, &request.commands),
            done: vec![None; request.file.stages.len()],
            images: RefCell::default(),
        };
        build.declare()?;
        Ok(build)
    }

    /// `ARG`s before the first stage.
    fn declare(&mut self) -> Result<()> {
        let file = &self.request.file;
        for instruction in &file.arguments {
            let Kind::Arg(arguments) = &instruction.kind else {
                continue;
            };
            for (name, default) in arguments {
                let declared =
                    self.global
                        .declare_global(&self.given, file.escape, name, default.as_ref());
                declared
                    .map_err(|failed| failed.at(&file.file, instruction.line, &instruction.text))?;
            }
        }
        Ok(())
    }

    pub(crate) fn run(mut self) -> Result<ImageRecord> {
        let target = self.target()?;
        let file = &self.request.file;
        if let Some(syntax) = &file.syntax {
            self.watch.warn(&format!(
                "{}: # syntax={syntax} has no effect: floe has a front end of its own",
                file.file
            ));
        }
        for number in needed(
            file,
            target,
            &self.request.contexts.keys().map(String::as_str).collect(),
        ) {
            let state = Stage::build(&self, number, number == target)?;
            self.done[number] = Some(state);
        }
        let unused = self.given.unused();
        if !unused.is_empty() {
            let words = format!(
                "one or more build args were not consumed: [{}]",
                unused.join(" ")
            );
            self.watch.warn(&words);
        }
        match self.done[target].take() {
            Some(state) => self.commit(target, state),
            None => Err(Error::Request("the stage was not built".into())),
        }
    }

    fn target(&self) -> Result<usize> {
        let stages = &self.request.file.stages;
        match &self.request.target {
            None => Ok(stages.len().saturating_sub(1)),
            Some(name) => self.stage_number(name).ok_or_else(|| {
                let known = stages.iter().filter_map(|stage| stage.from.name.as_deref());
                let known: Vec<&str> = known.collect();
                Error::Request(format!(
                    "--target {name:?}: {} has no such stage; it has {}",
                    self.request.file.file,
                    match known.is_empty() {
                        true => format!("{} without names", stages.len()),
                        false => known.join(", "),
                    }
                ))
            }),
        }
    }

    /// A stage by its name or number.
    pub(crate) fn stage_number(&self, name: &str) -> Option<usize> {
        number_of(&self.request.file, name)
    }

    /// A stage that is built.
    pub(crate) fn done(&self, number: usize) -> Option<&State> {
        self.done.get(number)?.as_ref()
    }

    /// Which stage it is, and of how many.
    pub(crate) fn place(&self, number: usize) -> (usize, usize) {
        (number + 1, self.request.file.stages.len())
    }

    /// An image by name: the same for the whole build.
    pub(crate) fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<ImageRecord, Failed> {
        let key = (name.to_owned(), platform.map(ToString::to_string));
        if let Some(known) = self.images.borrow().get(&key) {
            return Ok(known.clone());
        }
        let record = self.around.image(name, platform)?;
        if record.is_artifact() {
            return Err(format!("{name} is no image of a container but an artifact").into());
        }
        if !self.engine.store().hold_image(&self.lease, &record)? {
            return Err(format!("the image {name} was removed meanwhile").into());
        }
        self.images.borrow_mut().insert(key, record.clone());
        Ok(record)
    }

    /// A further context that is an image stands for others of its name.
    pub(crate) fn image_named(&self, name: &str) -> Option<&str> {
        match self.request.contexts.get(name)? {
            Context::Image(image) => Some(image),
            Context::Directory(_) => None,
        }
    }
}

fn number_of(file: &Containerfile, name: &str) -> Option<usize> {
    let by_number = || {
        name.parse()
            .ok()
            .filter(|number| *number < file.stages.len())
    };
    file.stage(name).or_else(by_number)
}

/// The stages that the target needs, in their order.
fn needed(file: &Containerfile, target: usize, contexts: &BTreeSet<&str>) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    let mut left = vec![target];
    while let Some(number) = left.pop() {
        if all.insert(number) {
            let uses = uses(file, number);
            let earlier = uses.iter().filter(|name| !contexts.contains(name.as_str()));
            left.extend(
                earlier
                    .filter_map(|name| number_of(file, name))
                    .filter(|used| *used < number),
            );
        }
    }
    all
}

/// The names that a stage may mean stages by.
fn uses(file: &Containerfile, number: usize) -> Vec<String> {
    let stage = &file.stages[number];
    let mut all = vec![stage.from.image.raw.clone()];
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Copy(copy) | Kind::Add(copy) => {
                all.extend(copy.flags.get("from").map(|text| text.raw.clone()));
            }
            Kind::Run(run) => {
                for text in run.flags.all("mount") {
                    if let Ok(
                        MountKind::Bind {
                            from: Some(from), ..
                        }
                        | MountKind::Cache {
                            from: Some(from), ..
                        },
                    ) = Mount::parse(&text.raw).map(|mount| mount.kind)
                    {
                        all.push(from);
                    }
                }
            }
            _ => {}
        }
    }
    // What a variable means is not known yet.
    match all.iter().any(|name| name.contains('$')) {
        true => (0..number).map(|earlier| earlier.to_string()).collect(),
        false => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one /x /x\nFROM c AS three\nFROM two\n\
                    RUN --mount=from=three,target=/m x\nFROM d AS five\nFROM x$V\n";
        let file = Containerfile::parse("F", text).unwrap();
        let none = BTreeSet::new();
        let of = |target| needed(&file, target, &none).into_iter().collect::<Vec<_>>();
        assert_eq!(of(0), [0]);
        assert_eq!(of(1), [0, 1]);
        assert_eq!(of(3), [0, 1, 2, 3]);
        assert_eq!(of(4), [4]);
        assert_eq!(of(5), [0, 1, 2, 3, 4, 5]);
        let contexts = BTreeSet::from(["one"]);
        assert_eq!(needed(&file, 1, &contexts).len(), 1);
    }
}
