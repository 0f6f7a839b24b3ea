//! From a container's record to the launch plan with its OCI configuration. Pure translation of what `create` has
//! checked; what must be read from the host (devices, profiles) is read here.

use crate::plan::Plan;
use crate::table::Container;
use crate::{Engine, Result};

impl Engine {
    /// The launch plan of a recorded container.
    pub(crate) fn plan(&self, container: &Container) -> Result<Plan> {
        let named = if container.image.starts_with("host:") { &container.image } else { &container.image_id };
        let image = self.read(|connection| Ok(self.images().resolve(connection, named)?))?;
        self.plan_with(container, &image)
    }

    /// [`Engine::plan`] with the image already resolved.
    pub(crate) fn plan_with(&self, _container: &Container, _image: &image::store::Image) -> Result<Plan> {
        todo!()
    }
}
