//! `floe system check`.

use crate::cli::machine;

#[test]
fn damage_is_told_by_name_repaired_when_asked_and_the_image_pulled_again() {
    machine(|floe| {
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let said = floe.floe(&["system", "check"]).ok();
        assert_eq!(said, "Checked 1 images, 1 layers and 3 blobs: all is well");
        let manifest = floe
            .floe(&["inspect", "--raw", &format!("floe:{}", floe.image)])
            .ok();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
        let layer = manifest["layers"][0]["digest"].as_str().expect("a digest")[7..].to_owned();
        let blob = floe.node.path("root/blobs/sha256").join(&layer);
        let mut bytes = std::fs::read(&blob).expect("read");
        bytes[100] ^= 1;
        std::fs::write(&blob, bytes).expect("write");
        floe.floe(&["system", "check", "--quick"]).ok();
        let said = floe.floe(&["system", "check"]);
        assert!(said.out.contains(&layer), "{said:?}");
        said.failed(125, &["--repair"]);
        floe.background("user", "sleep 1000");
        let said = floe.floe(&["system", "check", "--repair"]);
        assert!(
            said.out
                .contains("not repaired: remove what uses it first: container"),
            "{said:?}"
        );
        said.failed(125, &["damage remains"]);
        floe.floe(&["rm", "-f", "-t", "0", "user"]).ok();
        let said = floe.floe(&["system", "check", "--repair"]).ok();
        assert!(said.contains("removed with its image"), "{said}");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        floe.floe(&["system", "check"]).ok();
        assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
    });
}

#[test]
fn images_of_an_additional_store_run_and_are_neither_pulled_nor_removed() {
    machine(|floe| {
        let far = floe.node.path("far").display().to_string();
        let id = floe.floe(&["pull", "-q", "--root", &far, &floe.image]).ok();
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        let with = |arguments: &[&str]| {
            let mut all = vec!["--additional-store", far.as_str()];
            all.extend(arguments);
            floe.floe(&all)
        };
        assert_eq!(
            with(&["images", "-q", "--no-trunc"]).ok(),
            format!("sha256:{id}")
        );
        let run = ["run", "--rm", "--network", "none", &floe.image];
        assert_eq!(with(&run).ok(), "default");
        let place = format!("floe:{}", floe.image);
        let config = with(&["inspect", "--config", &place]).ok();
        assert!(config.contains("\"architecture\""), "{config}");
        with(&["rmi", &floe.image]).failed(125, &["never written", &far]);
        assert_eq!(with(&["image", "prune", "-af"]).ok(), "");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "", "nothing was pulled");
        // By the configuration, too.
        let config = std::fs::read_to_string(floe.node.config()).expect("read");
        let config = config.replacen(
            "[crio]\n",
            &format!("[crio]\nadditionalimagestores = [\"{far}\"]\n"),
            1,
        );
        std::fs::write(floe.node.config(), config).expect("write");
        assert_eq!(floe.floe(&run).ok(), "default");
        let none = floe.node.path("no/such").display().to_string();
        floe.floe(&["--additional-store", &none, "images"])
            .failed(125, &[&none, "no store of floe"]);
    });
}
