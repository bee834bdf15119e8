//! A registry that breaks, lies or refuses: a few lines of HTTP/1.1 on loopback, as much as a pull
//! needs. Its threads end with the test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use image::Digest;
use serde_json::json;
use testkit::{Error, images};

/// How the registry is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every request gets this HTTP status.
    Status(u16),
    /// The layer has the right size and other bytes than its digest says.
    OtherBytes,
    /// The layer ends in the middle, each time it is asked for.
    Truncated,
    /// The layer stops in the middle until [`BadRegistry::release`].
    Held,
    /// The layer is what its digest says, but not what the image's configuration says.
    OtherLayer,
}

/// A registry that serves one image, `NAME`, badly.
pub(crate) struct BadRegistry {
    pub(crate) host: String,
    headers: Arc<Mutex<Vec<String>>>,
    released: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
    layers: Arc<AtomicUsize>,
    layer: String,
}

impl BadRegistry {
    /// The image's name at any tag.
    pub(crate) const NAME: &str = "bad/image:1";

    /// Starts to serve in the calling thread's network.
    pub(crate) fn start(fault: Fault) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let host = listener.local_addr()?.to_string();
        let headers = Arc::default();
        let released = Arc::default();
        let (refuses, layers) = (Arc::default(), Arc::default());
        let content = content(fault)?;
        let is_layer = |(_, (kind, _)): &(&String, &(&str, Vec<u8>))| *kind == LAYER;
        let layer = content.iter().find(is_layer);
        let layer = layer.map(|(name, _)| name.clone()).unwrap_or_default();
        let server = Server {
            fault,
            content: Arc::new(content),
            refuses: Arc::clone(&refuses),
            layers: Arc::clone(&layers),
            headers: Arc::clone(&headers),
            released: Arc::clone(&released),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        Ok(Self {
            host,
            headers,
            released,
            refuses,
            layers,
            layer,
        })
    }

    /// How often the layer was asked for.
    pub(crate) fn layers(&self) -> usize {
        self.layers.load(Ordering::Relaxed)
    }

    /// The digest of the layer.
    pub(crate) fn layer(&self) -> &str {
        &self.layer
    }

    /// Lets nobody in from now on, or everybody again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Lets layers that are held go on.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// The full name of the image.
    pub(crate) fn image(&self) -> String {
        format!("{}/{}", self.host, Self::NAME)
    }

    /// The `Authorization` headers that came.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.headers
            .lock()
            .map(|headers| headers.clone())
            .unwrap_or_default()
    }
}

#[derive(Clone)]
struct Server {
    fault: Fault,
    /// By the last part of the path.
    content: Arc<HashMap<String, (&'static str, Vec<u8>)>>,
    headers: Arc<Mutex<Vec<String>>>,
    released: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
    layers: Arc<AtomicUsize>,
}

impl Server {
    /// One request, one answer, end of connection. A client that hangs up is no concern.
    fn answer(&self, stream: TcpStream) {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        for line in lines.take_while(|line| !line.is_empty()) {
            if line.to_ascii_lowercase().starts_with("authorization:")
                && let Ok(mut headers) = self.headers.lock()
            {
                headers.push(line);
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (status, kind, body) = match self.fault {
            _ if self.refuses.load(Ordering::Relaxed) => (403, "application/json", b"{}".to_vec()),
            Fault::Status(status) => (status, "application/json", b"{}".to_vec()),
            _ => match self
                .content
                .get(path.rsplit('/').next().unwrap_or_default())
            {
                Some((kind, body)) => (200, *kind, body.clone()),
                None => (404, "application/json", b"{}".to_vec()),
            },
        };
        if kind == LAYER && request.starts_with("GET") {
            self.layers.fetch_add(1, Ordering::Relaxed);
        }
        let sent = if self.fault == Fault::Truncated && kind == LAYER {
            body.len() / 2
        } else {
            body.len()
        };
        let challenge = if status == 401 {
            "WWW-Authenticate: Basic realm=\"bad\"\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{challenge}Connection: close\r\n\r\n",
            body.len()
        );
        let mut stream = &stream;
        let body = if request.starts_with("HEAD") {
            &[][..]
        } else {
            &body[..sent]
        };
        let (first, rest) = match self.fault == Fault::Held && kind == LAYER {
            true => body.split_at(body.len() / 2),
            false => (body, &[][..]),
        };
        let begun = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(first));
        while !rest.is_empty() && !self.released.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = begun.and_then(|()| stream.write_all(rest));
    }
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one plain layer; bad as the fault says.
fn content(fault: Fault) -> Result<HashMap<String, (&'static str, Vec<u8>)>, Error> {
    let file = vec![b'x'; 100_000];
    let layer = images::layer(&[images::Entry::File("file", 0o644, &file)])?;
    let diff_id = if fault == Fault::OtherLayer {
        Digest::of(b"another")
    } else {
        Digest::of(&layer)
    };
    let config = serde_json::to_vec(&json!({
        "architecture": image::manifest::Platform::host().architecture,
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
    }))?;
    let descriptor = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    }))?;
    let (layer_name, config_name) = (
        Digest::of(&layer).to_string(),
        Digest::of(&config).to_string(),
    );
    let manifest_name = Digest::of(&manifest).to_string();
    let mut layer = layer;
    if fault == Fault::OtherBytes {
        layer[2000] ^= 1;
    }
    Ok(HashMap::from([
        (layer_name, (LAYER, layer)),
        (config_name, (CONFIG, config)),
        (manifest_name, (MANIFEST, manifest.clone())),
        ("1".to_owned(), (MANIFEST, manifest)),
    ]))
}
