//! `create`: from a request to a recorded container, in one transaction.

use crate::model::{CreateRequest, Created};
use crate::table::{Container, Intent};
use crate::{Engine, Result};

/// A container just recorded, with what `start` needs at once.
pub(crate) struct NewContainer {
    /// Its record.
    pub(crate) container: Container,
    /// Its image.
    pub(crate) image: image::store::Image,
    /// Things the user should know; not errors.
    pub(crate) warnings: Vec<String>,
}

impl Engine {
    /// Checks the request, resolves the image (which must be present), makes the container's directory and volumes, and
    /// commits the record. The name is unique by the database.
    pub fn create(&self, request: &CreateRequest) -> Result<Created> {
        let new = self.create_container(request, Intent::Created)?;
        Ok(Created { id: new.container.id, warnings: new.warnings })
    }

    /// `create` with the record in a state of the caller's choice: `run` writes [`Intent::Running`] at once.
    pub(crate) fn create_container(&self, _request: &CreateRequest, _state: Intent) -> Result<NewContainer> {
        todo!()
    }

    /// Gives the container another name.
    pub fn rename(&self, _name: &str, _new_name: &str) -> Result<()> {
        todo!()
    }
}
