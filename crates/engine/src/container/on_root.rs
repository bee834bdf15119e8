//! A container on a root file system of the caller's own, as the steps of a build are run: it is there before and after.

use image::config::ContainerConfig;
use store::RootFilesystem;

use super::ContainerSpec;
use super::create::{Making, validate};
use crate::engine::Engine;
use crate::error::Result;
use crate::user;

impl Engine {
    /// As [`Engine::create_container`], on `root`, which the container does not own: nothing else may write to it, and it
    /// stays when the container goes. The image is only a word then: nothing is looked up in it, users are numbers,
    /// and no volumes are made.
    ///
    /// # Errors
    /// As that.
    pub fn create_container_on(
        &self,
        pod: &str,
        mut spec: ContainerSpec,
        root: &RootFilesystem,
    ) -> Result<String> {
        validate(&spec)?;
        let (pod, sandbox) = self.pod_for_container(pod)?;
        let admitted = match self.admit(&pod, &spec)? {
            Ok(admitted) => admitted,
            Err(holder) => return Ok(holder),
        };
        let volumes = self.volume_images(&pod, &mut spec)?;
        let making = Making::begin(self, admitted, &pod)?;
        let config = ContainerConfig::default();
        let user = user::resolve_numbers(&spec.security)?;
        let image = spec.image.clone();
        let mut record = making.record_of(spec, (&image, &image), user, &config)?;
        let new = making.build(&mut record, (&sandbox, root), &config, (&volumes, None))?;
        making.commit(&record, new)
    }
}
