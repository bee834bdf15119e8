//! A store of many images beside one that is almost empty: the same verbs by the same programs.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{Clients, Error, Node, Registry, program};

use crate::calm::Calm;
use crate::people::ok;
use crate::runtimes::timed;
use crate::table::{Figure, Section, figure};

const ROUNDS: usize = 20;
const IMAGES: usize = 10_000;
const LAYERS: usize = 5;
const ROWS: usize = 12;

/// An engine, its clients and the image of `rounds` on it.
struct Lab {
    node: Node,
    clients: Clients,
    held: u64,
}

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    image: &str,
) -> Result<Section, Error> {
    let mut labs = [
        prepare(registry, image, 1).await?,
        prepare(registry, image, IMAGES).await?,
    ];
    let what: [&str; ROWS] = [
        "floe pull of a small image",
        "floe images NAME",
        "floe inspect floe:NAME",
        "floe run --rm --network none",
        "floe rmi",
        "PullImage of a small image",
        "ListImages of one name",
        "ImageStatus",
        "ImageFsInfo",
        "RemoveImage",
        "ListImages of all, µs for each",
        "memory of the engine after that (Pss), MiB",
    ];
    // Alternating, so that what else the machine does meets both.
    let samples: [[Vec<Duration>; 2]; ROWS] = calm
        .requests(ROUNDS, async |_| {
            let mut samples = <[[Vec<Duration>; 2]; ROWS]>::default();
            for (column, lab) in labs.iter_mut().enumerate() {
                for (row, duration) in lab.round(image).await?.into_iter().enumerate() {
                    samples[row][column].push(duration);
                }
            }
            Ok(samples)
        })
        .await?;
    let mut rows: Vec<(String, Vec<Option<Figure>>)> = what
        .iter()
        .zip(samples)
        .map(|(what, samples)| ((*what).to_owned(), samples.map(figure).to_vec()))
        .collect();
    let [.., list, memory] = rows.as_mut_slice() else {
        return Err("no rows".into());
    };
    for (column, lab) in labs.iter().enumerate() {
        list.1[column] = list.1[column].map(|ms| ms.times(1000.0 / lab.held as f64));
        let engine = lab.node.engine_pid().ok_or("the engine has ended")?;
        memory.1[column] = crate::memory::pss(engine).map(Figure::from);
    }
    Ok(Section {
        title: "Scale".into(),
        about: format!(
            "Stores of one image and of {IMAGES} images with {} layers, {ROUNDS} rounds in turn. Here a ratio is many : one.",
            IMAGES * LAYERS
        ),
        who: ["1 image".to_owned(), format!("{IMAGES} images")].to_vec(),
        unit: "ms",
        rows,
    })
}

async fn prepare(registry: &Registry, image: &str, images: usize) -> Result<Lab, Error> {
    let mut node = Node::prepare(&crate::options(registry))?;
    let mut fill = Command::new(program("fill")?);
    fill.arg(node.path("root"))
        .args([images, LAYERS].map(|n| n.to_string()));
    ok(fill)?;
    node.serve()?;
    let clients = node.clients().await?;
    // The first of each kind reads what is kept in memory then.
    let mut lab = Lab {
        node,
        clients,
        held: images as u64,
    };
    ok(lab.node.floe(&["pull", "-q", image])?)?;
    lab.requests(image).await?;
    Ok(lab)
}

impl Lab {
    /// Each verb once, in the order of the rows.
    async fn round(&mut self, image: &str) -> Result<Vec<Duration>, Error> {
        let mut durations = Vec::new();
        for words in [
            &["pull", "-q", image][..],
            &["images", image],
            &["inspect", &format!("floe:{image}")],
            &["run", "--rm", "--network", "none", image, "true"],
            &["rmi", image],
        ] {
            durations.push(timed(|| ok(self.node.floe(words)?))?);
        }
        durations.extend(self.requests(image).await?);
        Ok(durations)
    }

    /// The verbs of the CRI image service, in the order of the rows; the image is pulled and removed.
    async fn requests(&mut self, image: &str) -> Result<Vec<Duration>, Error> {
        let spec = Some(cri::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        });
        let filter = Some(cri::ImageFilter {
            image: spec.clone(),
        });
        let client = &mut self.clients.images;
        let mut durations = Vec::new();
        let mut begin = Instant::now();
        let mut lap = || {
            durations.push(begin.elapsed());
            begin = Instant::now();
        };
        client
            .pull_image(cri::PullImageRequest {
                image: spec.clone(),
                ..Default::default()
            })
            .await?;
        lap();
        client
            .list_images(cri::ListImagesRequest { filter })
            .await?;
        lap();
        client
            .image_status(cri::ImageStatusRequest {
                image: spec.clone(),
                verbose: false,
            })
            .await?;
        lap();
        client.image_fs_info(cri::ImageFsInfoRequest {}).await?;
        lap();
        client
            .remove_image(cri::RemoveImageRequest { image: spec })
            .await?;
        lap();
        client
            .list_images(cri::ListImagesRequest::default())
            .await?;
        lap();
        Ok(durations)
    }
}
