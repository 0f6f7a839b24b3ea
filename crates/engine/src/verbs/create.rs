//! `create`: from a request to a recorded container, in one transaction.

use crate::model::{CreateRequest, Created};
use crate::{Engine, Result};

impl Engine {
    /// Checks the request, resolves the image (which must be present), makes the container's directory and volumes, and
    /// commits the record. The name is unique by the database.
    pub fn create(&self, _request: &CreateRequest) -> Result<Created> {
        todo!()
    }

    /// Gives the container another name.
    pub fn rename(&self, _name: &str, _new_name: &str) -> Result<()> {
        todo!()
    }
}
