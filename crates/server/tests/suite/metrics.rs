//! CRI: ListMetricDescriptors, ListPodSandboxMetrics and StreamPodSandboxMetrics; and the engine's own metrics
//! for Prometheus.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{World, world, world_with};
use cri::*;

async fn descriptors(world: &World) -> BTreeMap<String, Vec<String>> {
    let request = ListMetricDescriptorsRequest {};
    let answer = world.runtime().list_metric_descriptors(request).await;
    let all = answer.unwrap().into_inner().descriptors.into_iter();
    all.map(|one| (one.name, one.label_keys)).collect()
}

async fn metrics(world: &World) -> Vec<PodSandboxMetrics> {
    let request = ListPodSandboxMetricsRequest {};
    let answer = world.runtime().list_pod_sandbox_metrics(request).await;
    answer.unwrap().into_inner().pod_metrics
}

fn names(metrics: &[Metric]) -> HashSet<&str> {
    metrics.iter().map(|one| one.name.as_str()).collect()
}

/// The metrics of a container that another handler runs.
pub(crate) async fn are_told(world: &World, container: &str) {
    let all = metrics(world).await;
    let mut containers = all.iter().flat_map(|pod| &pod.container_metrics);
    let of = containers
        .find(|one| one.container_id == container)
        .unwrap();
    assert!(names(&of.metrics).contains("container_memory_working_set_bytes"));
}

#[test]
fn a_running_container_has_cadvisors_metrics_and_every_one_is_described() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let ended = world.sleeper(&pod, "ended").await;
        world.stop(&ended, 0).await.unwrap();
        let described = descriptors(world).await;
        let all = metrics(world).await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].pod_sandbox_id, pod.id);
        let [container] = &all[0].container_metrics[..] else {
            panic!("{all:?}")
        };
        assert_eq!(container.container_id, id);
        for sample in all[0].metrics.iter().chain(&container.metrics) {
            let keys = described.get(&sample.name);
            let keys = keys.unwrap_or_else(|| panic!("{} is not described", sample.name));
            assert_eq!(keys.len(), sample.label_values.len(), "{sample:?}");
        }
        let told = names(&container.metrics);
        for name in [
            "container_cpu_usage_seconds_total",
            "container_memory_working_set_bytes",
            "container_memory_rss",
            "container_fs_usage_bytes",
            "container_processes",
            "container_threads",
            "container_file_descriptors",
            "container_sockets",
            "container_start_time_seconds",
            "container_spec_memory_limit_bytes",
            "container_oom_events_total",
            "container_last_seen",
        ] {
            assert!(told.contains(name), "{name} is not among {told:?}");
        }
        let network = names(&all[0].metrics);
        assert!(network.contains("container_network_receive_bytes_total"));
        let samples = container.metrics.iter();
        let mut rss = samples.filter(|one| one.name == "container_memory_rss");
        let rss = rss.next().unwrap();
        let image = world.image.as_str();
        assert_eq!(rss.label_values, [&id, image, "default", "a", "c"]);
        assert!(rss.value.unwrap().value > 0);
        assert_eq!(rss.timestamp, 0);
    });
}

#[test]
fn a_pod_that_is_gone_has_no_series_and_a_stream_tells_the_same_as_a_list() {
    let config = "[crio.stats]\ncollection_period = 3600\n";
    world_with(config.to_owned(), async |world| {
        let (one, two) = (world.pod("one").await, world.pod("two").await);
        world.sleeper(&one, "c").await;
        let listed = metrics(world).await;
        let at = listed
            .iter()
            .flat_map(|pod| &pod.metrics)
            .map(|one| one.timestamp);
        assert!(at.clone().count() > 0 && at.clone().all(|at| at > 0));
        let request = StreamPodSandboxMetricsRequest {};
        let stream = world.runtime().stream_pod_sandbox_metrics(request).await;
        let mut stream = stream.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            streamed.extend(chunk.pod_sandbox_metrics);
        }
        assert_eq!(streamed, listed, "within the collection period");
        world.remove_pod(&one).await.unwrap();
        let left = metrics(world).await;
        let ids: Vec<&str> = left.iter().map(|pod| pod.pod_sandbox_id.as_str()).collect();
        assert_eq!(ids, [two.id.as_str()]);
    });
}

#[test]
fn only_the_groups_of_the_configuration_are_described_and_told() {
    let config = "[crio.stats]\nincluded_pod_metrics = [\"oom\"]\n";
    world_with(config.to_owned(), async |world| {
        let pod = world.pod("a").await;
        world.sleeper(&pod, "c").await;
        let wanted = ["container_last_seen", "container_oom_events_total"];
        let described = descriptors(world).await;
        assert_eq!(described.keys().collect::<Vec<_>>(), wanted);
        let all = metrics(world).await;
        let told = names(&all[0].container_metrics[0].metrics);
        assert_eq!(told, wanted.into());
        assert!(all[0].metrics.is_empty());
    });
}

/// What the page of the engine's own metrics says.
fn scrape(mut client: impl Read + Write, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// The page that is served on a port.
pub(crate) fn page(port: u16) -> String {
    scrape(TcpStream::connect(("127.0.0.1", port)).unwrap(), GET)
}

/// The value of a sample.
fn value(page: &str, sample: &str) -> f64 {
    let line = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
    let value = page.lines().find_map(line);
    value.unwrap_or_else(|| panic!("no {sample} in {page}"))
}

#[test]
fn the_engine_tells_its_own_metrics_under_crios_names() {
    let config = "[crio.metrics]\nenable_metrics = true\nmetrics_port = 19090\n";
    world_with(config.to_owned(), async |world| {
        let pod = world.pod("a").await;
        let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
        let mut hungry = world.config("hungry", &dd);
        hungry.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let id = world.run(&pod, hungry).await;
        assert_eq!(world.ended(&id).await.reason, "OOMKilled");
        world.pull("127.0.0.1:1/none").await.unwrap_err();
        world.status("0123456789abcdef").await.unwrap_err();
        let page = page(19090);
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        let crio = |name: &str| value(&page, &format!("container_runtime_crio_{name}"));
        assert_eq!(crio("operations_total{operation=\"RunPodSandbox\"}"), 1.0);
        assert_eq!(
            crio("operations_errors_total{operation=\"RunPodSandbox\"}"),
            0.0
        );
        assert!(crio("operations_errors_total{operation=\"ContainerStatus\"}") >= 1.0);
        assert!(crio("operations_latency_seconds{operation=\"RunPodSandbox\"}") > 0.0);
        let latency = "operations_latency_seconds_total";
        let of = "operation=\"RunPodSandbox\"";
        assert_eq!(crio(&format!("{latency}_bucket{{{of},le=\"+Inf\"}}")), 1.0);
        assert_eq!(crio(&format!("{latency}_count{{{of}}}")), 1.0);
        assert_eq!(crio("image_pulls_success_total"), 1.0);
        assert!(crio("image_pulls_layer_size_count") >= 1.0);
        assert!(page.contains("container_runtime_crio_image_pulls_failure_total{error=\""));
        assert_eq!(crio("containers_oom_total"), 1.0);
        assert!(
            page.contains("containers_oom_count_total{name=\"k8s_hungry_a_default_uid-of-a_0\"} 1")
        );
        assert_eq!(crio("default_runtime{runtime=\"floe\"}"), 1.0);
        assert!(crio("processes_defunct") >= 0.0);
    });
}

#[test]
fn metrics_are_told_on_a_socket_and_only_those_that_are_wanted() {
    let socket = format!("/tmp/floe-metrics-{}.sock", std::process::id());
    let config = format!(
        "[crio.metrics]\nenable_metrics = true\nmetrics_port = 0\nmetrics_socket = \"{socket}\"\n\
         metrics_collectors = [\"crio_operations_total\", \"container_runtime_crio_default_runtime\"]\n"
    );
    world_with(config, async |_| {
        let connect = || std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let page = scrape(connect(), GET);
        let types = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE container_runtime_crio_"));
        let types: Vec<&str> = types.collect();
        assert_eq!(types, ["operations_total counter", "default_runtime gauge"]);
        let other = scrape(connect(), &GET.replace("/metrics", "/"));
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        let post = scrape(connect(), &GET.replace("GET", "POST"));
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    });
    assert!(!std::path::Path::new(&socket).exists());
}

/// A certificate of `localhost` for the files, and who trusts it.
fn certify(dir: &std::path::Path) -> tokio_rustls::TlsConnector {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
    ] {
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.with_no_client_auth()))
}

/// What a client that trusts that certificate is told; `None`: it does not trust the server.
async fn scrape_tls(trusts: &tokio_rustls::TlsConnector, port: u16) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let client = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = trusts.connect(name, client).await.ok()?;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    // Whether the end is announced is the server's own.
    let _ = client.read_to_end(&mut said).await;
    Some(String::from_utf8(said).unwrap())
}

#[test]
fn metrics_over_tls_have_a_certificate_that_may_be_renewed_and_no_plain_page() {
    let dir = tempfile::tempdir().unwrap();
    let first = certify(dir.path());
    let config = format!(
        "[crio.metrics]\nenable_metrics = true\nmetrics_port = 19092\nmetrics_cert = '{0}/cert.pem'\nmetrics_key = '{0}/key.pem'\n",
        dir.path().display()
    );
    world_with(config, async |world| {
        let page = scrape_tls(&first, 19092).await.unwrap();
        assert!(
            page.contains("container_runtime_crio_operations_total"),
            "{page}"
        );
        let plain = scrape(TcpStream::connect("127.0.0.1:19092").unwrap(), GET);
        assert!(!plain.contains("operations_total"), "{plain}");
        let second = certify(dir.path());
        world
            .until("the new certificate is shown", async || {
                scrape_tls(&second, 19092).await.map(drop)
            })
            .await;
    });
}
