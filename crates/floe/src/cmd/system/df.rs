//! `floe system df`: what images, containers and volumes take on disk, and what of it nothing uses.
//!
//! Layers that images share are counted once; those of images without a container could be had back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;

use engine::image::ImageRecord;
use engine::pod::Origin;
use engine::volume::Volume;
use engine::{Container, ContainerFilter, Engine};
use serde_json::{Value, json};

use crate::cmd::ps;
use crate::failure::Failure;
use crate::{output, template};

/// Options of `floe system df`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every image, container and volume by itself
    #[arg(long, short)]
    verbose: bool,
    /// json, or a Go template such as '{{.Type}} {{.Size}}'
    #[arg(
        long,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        conflicts_with = "verbose"
    )]
    format: Option<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let found = Found::look(engine)?;
    if args.verbose {
        found.print_each();
        return Ok(ExitCode::SUCCESS);
    }
    let sums = [
        ("Images", found.of_images()),
        ("Containers", found.of_containers()),
        ("Local Volumes", found.of_volumes()),
    ];
    match args.format.as_deref() {
        Some("json") => {
            let all: Vec<Value> = sums.iter().map(|(kind, sum)| sum.fields(kind)).collect();
            output::print_list(&all);
        }
        Some(format) => {
            let all: Vec<Value> = sums.iter().map(|(kind, sum)| sum.fields(kind)).collect();
            print!("{}", template::lines(format, &headings(), &all)?);
        }
        None => {
            let rows: Vec<_> = sums.iter().map(|(kind, sum)| sum.row(kind)).collect();
            let header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"];
            print!("{}", output::table(&header, &rows));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands above a column of a template.
fn headings() -> Value {
    json!({
        "Type": "TYPE",
        "Total": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "RawSize": "SIZE",
        "Reclaimable": "RECLAIMABLE",
        "RawReclaimable": "RECLAIMABLE",
    })
}

/// What a kind takes, in bytes.
#[derive(Debug, Default)]
struct Sum {
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

impl Sum {
    fn reclaimable(&self) -> String {
        let percent = match self.size {
            0 => 0,
            size => u128::from(self.reclaimable) * 100 / u128::from(size),
        };
        format!("{} ({percent}%)", output::short_size(self.reclaimable))
    }

    fn row(&self, kind: &str) -> Vec<String> {
        vec![
            kind.to_owned(),
            self.total.to_string(),
            self.active.to_string(),
            output::short_size(self.size),
            self.reclaimable(),
        ]
    }

    fn fields(&self, kind: &str) -> Value {
        json!({
            "Type": kind,
            "Total": self.total,
            "TotalCount": self.total,
            "Active": self.active,
            "Size": output::short_size(self.size),
            "RawSize": self.size,
            "Reclaimable": self.reclaimable(),
            "RawReclaimable": self.reclaimable,
        })
    }
}

/// All that is there.
struct Found {
    images: Vec<ImageRecord>,
    /// The layers of each image, by their ids.
    layers: HashMap<String, BTreeMap<String, u64>>,
    containers: Vec<Arc<Container>>,
    /// What each container has written.
    written: HashMap<String, u64>,
    volumes: Vec<(Volume, u64)>,
}

impl Found {
    fn look(engine: &Engine) -> Result<Found, Failure> {
        let store = engine.store();
        let failed = |error: store::Error| Failure::new(error.to_string());
        let images = engine.images(None)?;
        let mut layers = HashMap::new();
        for image in &images {
            let of_image = store.layers_of(image).map_err(failed)?;
            let sizes = of_image
                .iter()
                .map(|layer| (layer.diff_id().to_string(), layer.usage().bytes));
            layers.insert(image.id.clone(), sizes.collect());
        }
        let containers = engine.containers(&ContainerFilter {
            origin: Some(Origin::Cli),
            ..ContainerFilter::default()
        })?;
        let mut written = HashMap::new();
        for container in &containers {
            let usage = store.writable_layer_usage(&container.id).map_err(failed)?;
            written.insert(container.id.clone(), usage.bytes);
        }
        let mut volumes = Vec::new();
        for volume in engine.volumes()? {
            let usage = engine.volume_usage(&volume)?;
            volumes.push((volume, usage.bytes));
        }
        Ok(Found {
            images,
            layers,
            containers,
            written,
            volumes,
        })
    }

    /// How many containers use an image.
    fn users_of(&self, image: &str) -> usize {
        let uses = self.containers.iter().filter(|one| one.image_id == image);
        uses.count()
    }

    fn layers_of(&self, image: &ImageRecord) -> impl Iterator<Item = (&str, u64)> {
        let layers = self.layers.get(&image.id).into_iter().flatten();
        layers.map(|(id, size)| (id.as_str(), *size))
    }

    fn of_images(&self) -> Sum {
        let (mut all, mut used) = (BTreeMap::new(), HashSet::new());
        let mut active = 0;
        for image in &self.images {
            let is_used = self.users_of(&image.id) > 0;
            active += usize::from(is_used);
            for (id, size) in self.layers_of(image) {
                all.insert(id, size);
                if is_used {
                    used.insert(id);
                }
            }
        }
        let free = all.iter().filter(|(id, _)| !used.contains(*id));
        Sum {
            total: self.images.len(),
            active,
            reclaimable: free.map(|(_, size)| size).sum(),
            size: all.values().sum(),
        }
    }

    fn of_containers(&self) -> Sum {
        let mut sum = Sum {
            total: self.containers.len(),
            ..Sum::default()
        };
        for container in &self.containers {
            let written = self.written_by(container);
            sum.size += written;
            match container.runs() {
                true => sum.active += 1,
                false => sum.reclaimable += written,
            }
        }
        sum
    }

    fn of_volumes(&self) -> Sum {
        let mut sum = Sum {
            total: self.volumes.len(),
            ..Sum::default()
        };
        for (volume, size) in &self.volumes {
            sum.size += size;
            match self.links_of(volume) {
                0 => sum.reclaimable += size,
                _ => sum.active += 1,
            }
        }
        sum
    }

    fn written_by(&self, container: &Container) -> u64 {
        self.written.get(&container.id).copied().unwrap_or(0)
    }

    /// How many containers use a volume.
    fn links_of(&self, volume: &Volume) -> usize {
        let uses = |container: &&Arc<Container>| {
            let mut mounts = container.spec.mounts.iter();
            mounts.any(|mount| {
                mount
                    .volume
                    .as_ref()
                    .is_some_and(|of| of.name == volume.name)
            })
        };
        self.containers.iter().filter(uses).count()
    }

    fn print_each(&self) {
        println!("Images space usage:\n");
        let header = [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS",
        ];
        print!("{}", output::table(&header, &self.image_rows()));
        println!("\nContainers space usage:\n");
        let header = [
            "CONTAINER ID",
            "IMAGE",
            "LOCAL VOLUMES",
            "SIZE",
            "CREATED",
            "STATUS",
            "NAMES",
        ];
        let rows = self.containers.iter().map(|one| self.container_row(one));
        print!("{}", output::table(&header, &rows.collect::<Vec<_>>()));
        println!("\nLocal Volumes space usage:\n");
        let row = |(volume, size): &(Volume, u64)| {
            let links = self.links_of(volume).to_string();
            vec![volume.name.clone(), links, output::short_size(*size)]
        };
        let rows: Vec<_> = self.volumes.iter().map(row).collect();
        print!(
            "{}",
            output::table(&["VOLUME NAME", "LINKS", "SIZE"], &rows)
        );
    }

    fn image_rows(&self) -> Vec<Vec<String>> {
        let mut times = HashMap::new();
        for image in &self.images {
            for (id, _) in self.layers_of(image) {
                *times.entry(id).or_insert(0) += 1;
            }
        }
        let row = |image: &ImageRecord| {
            let is_shared = |id: &str| times.get(id).is_some_and(|count| *count > 1);
            let shared: u64 = self
                .layers_of(image)
                .filter(|(id, _)| is_shared(id))
                .map(|(_, size)| size)
                .sum();
            let all: u64 = self.layers_of(image).map(|(_, size)| size).sum();
            let name = image.names.first().map_or("<none>:<none>", String::as_str);
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            vec![
                repository.to_owned(),
                tag.to_owned(),
                output::short(&image.id),
                output::ago(image.created.unwrap_or(0).saturating_mul(1_000_000_000)),
                output::short_size(all),
                output::short_size(shared),
                output::short_size(all - shared),
                self.users_of(&image.id).to_string(),
            ]
        };
        self.images.iter().map(row).collect()
    }

    fn container_row(&self, container: &Container) -> Vec<String> {
        let mounts = container.spec.mounts.iter();
        let volumes = mounts.filter(|mount| mount.volume.is_some()).count();
        vec![
            output::short(&container.id),
            output::short(&container.image_id),
            volumes.to_string(),
            output::short_size(self.written_by(container)),
            output::ago(container.created_at),
            ps::state(container),
            container.spec.name.clone(),
        ]
    }
}
