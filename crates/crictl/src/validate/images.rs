//! Images: what is known of them, pulls and removals.

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::trial::Trial;
use crate::connection::Refusal;
use crate::filter::spec;
use crate::fixture::{self, told};

pub(super) const GROUP: Group = Group {
    name: "images",
    checks: checks! {
        501 "test-image" Runtime test_image, "the image that containers are checked with is on the node or can be pulled", "PullImage, ImageStatus";
        502 "status" Image status, "an image is known by its name and by its id, with its size", "ImageStatus: Image.id, repo_tags, repo_digests, size";
        503 "list" Image list, "an image is listed, and found by a filter", "ListImages: ImageFilter";
        504 "missing" Runtime missing, "an image that is not there is no error, and no image", "ImageStatus: ImageStatusResponse.image is empty";
        505 "remove-missing" Runtime remove_missing, "the removal of an image that is not there succeeds", "RemoveImage is idempotent";
        506 "pull-missing" Runtime pull_missing, "the pull of an image that no registry has fails, and leaves none", "PullImage";
        507 "bad-name" Runtime bad_name, "a name that is none is refused", "PullImage: ImageSpec.image";
        508 "pull-again" Image pull_again, "the pull of an image that is there gives what is known of it", "PullImage: PullImageResponse.image_ref";
        509 "disk" Runtime disk, "the room that images take is told, with its place", "ImageFsInfo: FilesystemUsage.fs_id, used_bytes";
        510 "by-id" Image by_id, "a container is made of an image by its id, as kubelet asks for it", "CreateContainer: ContainerConfig.image";
        511 "streamed-list" Image streamed_list, "the streamed list of images has what the list has", "StreamImages";
        512 "remove" ImageAlone remove, "an image that is removed is gone, and can be pulled again", "RemoveImage, PullImage";
    },
};

async fn look(trial: &Trial<'_>, name: &str) -> Verdict<Option<cri::Image>> {
    let found = fixture::status(&trial.fixture.images, name, trial.fixture.limit).await;
    found.or_else(|refusal| failed("ImageStatus succeeds", told(&refusal)))
}

async fn test_image(trial: &Trial<'_>) -> Verdict {
    let image = &trial.fixture.image;
    match &image.found {
        Ok(_) => Ok(()),
        Err(why) => failed(
            format!("{} is on the node, or can be pulled", image.name),
            why.clone(),
        ),
    }
}

async fn status(trial: &Trial<'_>) -> Verdict {
    let name = &trial.fixture.image.name;
    let Some(image) = look(trial, name).await? else {
        return failed(format!("ImageStatus knows {name}"), "no image");
    };
    holds("id is not empty", !image.id.is_empty(), &image.id)?;
    holds("size is not 0", image.size > 0, image.size)?;
    let names = (&image.repo_tags, &image.repo_digests);
    let is_named = !names.0.is_empty() || !names.1.is_empty();
    holds("a repo_tag or a repo_digest", is_named, names)?;
    let same_one = look(trial, &image.id).await?.map(|image| image.id);
    same("image by its id", Some(image.id), same_one)
}

async fn listed(trial: &Trial<'_>, filter: Option<cri::ImageFilter>) -> Verdict<Vec<String>> {
    let request = cri::ListImagesRequest { filter };
    let answer = trial
        .images("ListImages", async |mut client| {
            client.list_images(request).await
        })
        .await?;
    Ok(answer.images.into_iter().map(|image| image.id).collect())
}

fn id(trial: &Trial<'_>) -> String {
    let found = trial.fixture.image.found.as_ref();
    found.map(|image| image.id.clone()).unwrap_or_default()
}

async fn list(trial: &Trial<'_>) -> Verdict {
    let all = listed(trial, None).await?;
    holds("ListImages has the image", all.contains(&id(trial)), &all)?;
    let filter = |name: &str| {
        Some(cri::ImageFilter {
            image: Some(spec(name)),
        })
    };
    let ours = listed(trial, filter(&trial.fixture.image.name)).await?;
    same("images by the name", vec![id(trial)], ours)?;
    let none = listed(trial, filter("localhost/floe/no-such-image:1")).await?;
    same(
        "images by a name that is not there",
        Vec::<String>::new(),
        none,
    )
}

async fn missing(trial: &Trial<'_>) -> Verdict {
    let found = look(trial, "localhost/floe/no-such-image:1").await?;
    same("image", None, found.map(|image| image.id))
}

async fn remove_missing(trial: &Trial<'_>) -> Verdict {
    let request = cri::RemoveImageRequest {
        image: Some(spec("localhost/floe/no-such-image:1")),
    };
    trial
        .images("RemoveImage", async |mut client| {
            client.remove_image(request).await
        })
        .await?;
    Ok(())
}

/// Pulls; gives what the runtime calls the image, or its refusal.
async fn pull(trial: &Trial<'_>, name: &str) -> Result<String, Refusal> {
    let request = cri::PullImageRequest {
        image: Some(spec(name)),
        ..Default::default()
    };
    let limit = Some(trial.fixture.place.pull_timeout);
    let answer = trial
        .fixture
        .images
        .ask(limit, async |mut client| client.pull_image(request).await)
        .await?;
    Ok(answer.image_ref)
}

async fn is_refused(trial: &Trial<'_>, name: &str) -> Verdict {
    match pull(trial, name).await {
        Err(Refusal::Status(_)) => Ok(()),
        Err(refusal) => failed("PullImage is refused", told(&refusal)),
        Ok(found) => failed(format!("PullImage of {name:?} is refused"), found),
    }
}

async fn pull_missing(trial: &Trial<'_>) -> Verdict {
    // Nobody listens on this port.
    let name = "localhost:1/floe/no-such-image:1";
    is_refused(trial, name).await?;
    same(
        "image",
        None,
        look(trial, name).await?.map(|image| image.id),
    )
}

async fn bad_name(trial: &Trial<'_>) -> Verdict {
    is_refused(trial, "Not/A Name::of@an:Image").await
}

async fn pull_again(trial: &Trial<'_>) -> Verdict {
    let name = &trial.fixture.image.name;
    let pulled = match pull(trial, name).await {
        Ok(pulled) => pulled,
        Err(refusal) => {
            return skipped(format!(
                "{name} cannot be pulled from here: {}",
                told(&refusal)
            ));
        }
    };
    let found = look(trial, &pulled).await?.map(|image| image.id);
    holds(
        "image_ref is an image that is there",
        found.is_some(),
        (pulled, found),
    )
}

async fn disk(trial: &Trial<'_>) -> Verdict {
    let request = cri::ImageFsInfoRequest::default();
    let answer = trial
        .images("ImageFsInfo", async |mut client| {
            client.image_fs_info(request).await
        })
        .await?;
    let Some(first) = answer.image_filesystems.first() else {
        return failed("an image file system", "none");
    };
    let place = first.fs_id.as_ref().map_or("", |id| &id.mountpoint);
    holds("fs_id.mountpoint is a path", place.starts_with('/'), place)?;
    holds("timestamp is a time", first.timestamp > 0, first.timestamp)?;
    holds("used_bytes is told", first.used_bytes.is_some(), first)
}

async fn by_id(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| config.image = Some(spec(&id(trial))))
        .await?;
    let status = trial.status(&up.container).await?;
    same(
        "state",
        cri::ContainerState::ContainerRunning,
        status.state(),
    )
}

async fn streamed_list(trial: &Trial<'_>) -> Verdict {
    let request = cri::StreamImagesRequest::default();
    let limit = Some(trial.fixture.limit);
    let stream = trial
        .fixture
        .images
        .ask(limit, async |mut client| {
            client.stream_images(request).await
        })
        .await;
    let stream = match stream {
        Ok(stream) => stream,
        Err(Refusal::Status(status)) if status.code() == tonic::Code::Unimplemented => {
            return skipped("the runtime has no StreamImages");
        }
        Err(refusal) => return failed("StreamImages succeeds", told(&refusal)),
    };
    let pieces = trial.pieces("StreamImages", stream).await?;
    let images = pieces.into_iter().flat_map(|piece| piece.images);
    let ids: Vec<String> = images.map(|image| image.id).collect();
    holds("the stream has the image", ids.contains(&id(trial)), &ids)
}

async fn remove(trial: &Trial<'_>) -> Verdict {
    let image = &trial.fixture.image;
    if !image.is_ours {
        return skipped(format!("{} was on the node before, and stays", image.name));
    }
    let request = cri::RemoveImageRequest {
        image: Some(spec(&image.name)),
    };
    trial
        .images("RemoveImage", async |mut client| {
            client.remove_image(request).await
        })
        .await?;
    let left = look(trial, &image.name).await?.map(|image| image.id);
    same("image after RemoveImage", None, left)?;
    if let Err(refusal) = pull(trial, &image.name).await {
        return failed("PullImage succeeds again", told(&refusal));
    }
    let found = look(trial, &image.name).await?;
    holds(
        "ImageStatus knows the image again",
        found.is_some(),
        "no image",
    )
}
