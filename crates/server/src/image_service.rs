//! `runtime.v1.ImageService`: six RPCs, each one call of the engine.

use engine::Engine;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::chunks::{Chunks, chunks};
use crate::convert::image;
use crate::metrics::Metrics;
use crate::runtime_service::building;
use crate::work::{Lists, Work};
use crate::{refusal, status, trace};

/// The image service of one engine.
#[derive(Debug)]
pub(crate) struct ImageServer {
    work: Work,
    metrics: Metrics,
}

impl ImageServer {
    pub(crate) fn new(work: Work, metrics: Metrics) -> Self {
        Self { work, metrics }
    }

    async fn images(&self, filter: Option<cri::ImageFilter>) -> Result<Vec<cri::Image>, Status> {
        let query = image::query(filter);
        let read = move |engine: &Engine| {
            let records = engine.images(query.as_deref())?;
            Ok(records.into_iter().map(image::image).collect())
        };
        self.work.read_disk("ListImages", read).await
    }
}

#[tonic::async_trait]
impl cri::image_service_server::ImageService for ImageServer {
    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> Result<Response<cri::ListImagesResponse>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let images = self.images(request.into_inner().filter).await?;
        Ok(building(
            Response::new(cri::ListImagesResponse { images }),
            place,
        ))
    }

    type StreamImagesStream = Chunks<cri::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let images = self.images(request.into_inner().filter).await?;
        let answer = chunks(images, |images| cri::StreamImagesResponse { images });
        Ok(building(answer, place))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = image::name("image", request.image).map_err(status::of)?;
        refusal::about(&name);
        let found = self
            .work
            .read_disk("ImageStatus", move |engine| engine.find_image(&name));
        let Some(record) = found.await? else {
            return Ok(Response::new(cri::ImageStatusResponse::default()));
        };
        let info = match request.verbose {
            true => {
                let wanted = record.clone();
                let config = self
                    .work
                    .read_disk("ImageStatus", move |engine| engine.image_config(&wanted));
                image::info(&config.await?)
            }
            false => Default::default(),
        };
        let image = Some(image::image(record));
        Ok(Response::new(cri::ImageStatusResponse { image, info }))
    }

    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> Result<Response<cri::PullImageResponse>, Status> {
        let mut request = image::pull_request(request.into_inner()).map_err(status::of)?;
        request.watch = trace::blobs(self.metrics.pull());
        let engine = self.work.engine();
        let name = request.image.clone();
        debug!(image = status::brief(&name), "PullImage begins");
        let pull = async move { engine.pull_image(request).await };
        let image_ref = self.work.change_async("PullImage", name, pull).await?;
        Ok(Response::new(cri::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        let name = image::name("image", request.into_inner().image).map_err(status::of)?;
        let of = name.clone();
        let remove = move |engine: &Engine| engine.remove_image(&name);
        self.work
            .change("RemoveImage", of, "images", remove)
            .await?;
        Ok(Response::new(cri::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _request: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        let info = self.work.read_disk("ImageFsInfo", Engine::fs_info).await?;
        Ok(Response::new(image::fs_info(&info)))
    }
}
