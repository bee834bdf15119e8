//! `floe pull`, `images` and `rmi`.

use crate::cli::machine;

#[test]
fn pull_prints_the_id_and_images_lists_names_ids_and_sizes() {
    machine(|floe| {
        let id = floe.floe(&["pull", &floe.image]).ok();
        assert_eq!(id.len(), 64, "{id}");
        let table = floe.floe(&["images"]).ok();
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split("  ").collect();
        assert_eq!(header[0], "REPOSITORY");
        let row = lines.next().unwrap_or_default();
        let (repository, _) = floe.image.rsplit_once(':').unwrap_or_default();
        assert!(
            row.starts_with(repository) && row.contains(&id[..12]),
            "{row}"
        );
        assert!(row.contains("years ago") && row.ends_with("MB"), "{row}");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), id[..12]);
        let whole = floe.floe(&["images", "-q", "--no-trunc"]).ok();
        assert_eq!(whole, format!("sha256:{id}"));
        let json = floe.floe(&["images", "--format", "json"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json[0]["Id"], id);
        assert_eq!(json[0]["Names"][0], floe.image);
        let digests = floe.floe(&["images", "--digests"]).ok();
        let digest = json[0]["Digest"].as_str().unwrap_or_default();
        assert!(digests.contains(digest), "{digests}");
    });
}

#[test]
fn a_pull_that_fails_names_the_image_and_goes_on_with_the_next() {
    machine(|floe| {
        let missing = format!("{}/cli/missing:1", floe.registry.host());
        let said = floe.floe(&["pull", "-q", &missing, &floe.image]);
        assert_eq!(said.code, 125);
        assert!(said.err.contains("missing:1"), "{said:?}");
        assert_eq!(said.out.trim().len(), 64, "{said:?}");
        floe.floe(&["pull", "127.0.0.1:9/x/y"])
            .failed(125, &["127.0.0.1:9", "onnect"]);
    });
}

#[test]
fn rmi_takes_a_name_away_and_the_image_with_its_last() {
    machine(|floe| {
        let second = floe.image.replace(":1", ":2");
        floe.push(&second, &["echo", "default"]);
        let id = floe.floe(&["pull", "-q", &floe.image]).ok();
        assert_eq!(floe.floe(&["pull", "-q", &second]).ok(), id);
        let said = floe.floe(&["rmi", &second]).ok();
        assert_eq!(said, format!("Untagged: {second}"));
        assert_eq!(floe.floe(&["images", "-q"]).ok(), id[..12]);
        let said = floe.floe(&["rmi", &floe.image]).ok();
        assert!(said.contains(&format!("Deleted: {id}")), "{said}");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        floe.floe(&["rmi", &second])
            .failed(1, &[&second, "not known"]);
    });
}

#[test]
fn rmi_by_id_takes_every_name_only_if_forced() {
    machine(|floe| {
        let second = floe.image.replace(":1", ":2");
        floe.push(&second, &["echo", "default"]);
        let id = floe.floe(&["pull", "-q", &floe.image]).ok();
        floe.floe(&["pull", "-q", &second]).ok();
        floe.floe(&["rmi", &id[..12]])
            .failed(125, &["more than one name"]);
        let said = floe.floe(&["rmi", "-f", &id[..12]]).ok();
        assert!(
            said.contains("Untagged") && said.contains("Deleted"),
            "{said}"
        );
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}

#[test]
fn an_image_in_use_is_removed_only_with_its_containers() {
    machine(|floe| {
        let container = floe.background("user", "sleep 1000");
        floe.floe(&["rmi", &floe.image])
            .failed(2, &[&container[..12], "in use"]);
        assert_eq!(floe.listed(&[]), ["user"]);
        floe.floe(&["rmi", "-f", &floe.image]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}
