//! Images: what the store has to what kubelet sees; CRI's credentials to the engine's.

use std::collections::BTreeMap;

use engine::image::{Asker, Credentials, ImageConfig, ImageRecord};
use engine::stats::FsInfo;
use engine::{Error, PullRequest};
use serde_json::json;

use super::{invalid, not_empty, required};

/// What PullImage asks for.
pub(crate) fn pull_request(request: cri::PullImageRequest) -> Result<PullRequest, Error> {
    let credentials = request.auth.map(credentials).transpose()?.flatten();
    let pod = request.sandbox_config.and_then(|pod| pod.metadata);
    let pod = pod.map(|metadata| Asker {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
    });
    Ok(PullRequest {
        image: name("image", request.image)?,
        credentials,
        pod: pod.unwrap_or_default(),
        ..PullRequest::default()
    })
}

/// The name in a request that must have one.
pub(crate) fn name(field: &str, image: Option<cri::ImageSpec>) -> Result<String, Error> {
    not_empty(&format!("{field}.image"), required(field, image)?.image)
}

/// Which images to list: all, or one by name.
pub(crate) fn query(filter: Option<cri::ImageFilter>) -> Option<String> {
    filter?
        .image
        .map(|image| image.image)
        .filter(|name| !name.is_empty())
}

/// What kubelet found in the pod's pull secrets; `None` if all is empty, so that the node's own
/// auth files are asked.
fn credentials(auth: cri::AuthConfig) -> Result<Option<Credentials>, Error> {
    if !auth.registry_token.is_empty() {
        return Ok(Some(Credentials::RegistryToken(auth.registry_token)));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Some(Credentials::IdentityToken(auth.identity_token)));
    }
    if !auth.username.is_empty() {
        return Ok(Some(Credentials::basic(auth.username, auth.password)));
    }
    if !auth.auth.is_empty() {
        let decoded = Credentials::from_base64(&auth.auth);
        return decoded
            .map(Some)
            .map_err(|flaw| invalid("auth.auth", flaw.to_string()));
    }
    Ok(None)
}

/// An image as lists and statuses show it.
pub(crate) fn image(record: ImageRecord) -> cri::Image {
    let (uid, username) = user(&record.user);
    cri::Image {
        id: record.id,
        repo_tags: record.names,
        repo_digests: record.repo_digests,
        size: record.size,
        uid,
        username,
        spec: None,
        pinned: record.pinned,
    }
}

/// What `crictl inspecti` shows below the status: JSON under the key `info`.
pub(crate) fn info(config: &ImageConfig) -> BTreeMap<String, String> {
    let info = json!({ "labels": config.config.labels, "imageSpec": config });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

/// The user of `USER[:GROUP]`: a number or a name; kubelet checks runAsNonRoot with it.
fn user(text: &str) -> (Option<cri::Int64Value>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(uid) => (Some(cri::Int64Value { value: uid.into() }), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

/// What images and writable layers take.
pub(crate) fn fs_info(info: &FsInfo) -> cri::ImageFsInfoResponse {
    let usage = |usage: &engine::stats::FilesystemUsage| {
        let mountpoint = usage.mountpoint.display().to_string();
        cri::FilesystemUsage {
            timestamp: usage.timestamp,
            fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
            used_bytes: Some(cri::UInt64Value {
                value: usage.used_bytes,
            }),
            inodes_used: Some(cri::UInt64Value {
                value: usage.inodes_used,
            }),
        }
    };
    cri::ImageFsInfoResponse {
        image_filesystems: vec![usage(&info.images)],
        container_filesystems: vec![usage(&info.containers)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(auth: cri::AuthConfig) -> Result<Option<Credentials>, Error> {
        let image = Some(cri::ImageSpec {
            image: "registry.example/app".into(),
            ..Default::default()
        });
        let request = cri::PullImageRequest {
            image,
            auth: Some(auth),
            sandbox_config: None,
        };
        pull_request(request).map(|request| request.credentials)
    }

    #[test]
    fn each_kind_of_credentials_is_understood() {
        let user = cri::AuthConfig {
            username: "ann".into(),
            password: "pw".into(),
            ..Default::default()
        };
        assert_eq!(asked(user).unwrap(), Some(Credentials::basic("ann", "pw")));
        let encoded = cri::AuthConfig {
            auth: "YW5uOnB3".into(),
            ..Default::default()
        };
        assert_eq!(
            asked(encoded).unwrap(),
            Some(Credentials::basic("ann", "pw"))
        );
        let refresh = cri::AuthConfig {
            identity_token: "t".into(),
            ..Default::default()
        };
        assert_eq!(
            asked(refresh).unwrap(),
            Some(Credentials::IdentityToken("t".into()))
        );
        let access = cri::AuthConfig {
            registry_token: "t".into(),
            ..Default::default()
        };
        assert_eq!(
            asked(access).unwrap(),
            Some(Credentials::RegistryToken("t".into()))
        );
        assert_eq!(asked(cri::AuthConfig::default()).unwrap(), None);
    }

    #[test]
    fn bad_credentials_are_refused_without_being_shown() {
        let bad = cri::AuthConfig {
            auth: "s3cret?".into(),
            ..Default::default()
        };
        let error = asked(bad).unwrap_err().to_string();
        assert!(
            error.contains("auth.auth") && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn an_image_to_pull_must_be_named() {
        let error = pull_request(cri::PullImageRequest::default()).unwrap_err();
        assert_eq!(error.kind(), engine::Kind::InvalidArgument);
        let error = name("image", Some(cri::ImageSpec::default()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("image.image"), "{error}");
    }

    #[test]
    fn a_user_is_a_number_or_a_name_without_its_group() {
        let number = |value| Some(cri::Int64Value { value });
        assert_eq!(user("1000:1000"), (number(1000), String::new()));
        assert_eq!(user("0"), (number(0), String::new()));
        assert_eq!(user("www:data"), (None, "www".to_owned()));
        assert_eq!(user(""), (None, String::new()));
    }
}
