//! Loading archives.

use std::io::Read;

use crate::Store;
use crate::error::Result;

impl Store {
    /// Loads an archive; the names (or ids of unnamed images) that it brought.
    pub fn load(
        &self,
        _records: &mut records::Records,
        _input: &mut dyn Read,
        _platform: Option<&str>,
    ) -> Result<Vec<String>> {
        todo!()
    }
}
