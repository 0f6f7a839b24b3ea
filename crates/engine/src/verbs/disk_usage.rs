//! `system df`: what images, containers and volumes take on the disk.

use std::collections::HashMap;

use super::images::{containers_of, row};
use crate::model::{Map, Volume};
use crate::verbs::{ContainerRow, ImageRow, ListRequest};
use crate::{Engine, Result, tree, volume_table};

/// What takes how much. Sizes are bytes on the disk: holes of sparse files take none.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// All images.
    pub images: Vec<ImageUsage>,
    /// Bytes of all layers, each once, and of the images' documents.
    pub images_size: u64,
    /// Bytes that would go with all images that no container uses.
    pub images_reclaimable: u64,
    /// All containers, with sizes.
    pub containers: Vec<ContainerRow>,
    /// All volumes.
    pub volumes: Vec<VolumeUsage>,
}

/// An image and its layers.
#[derive(Clone, Debug, Default)]
pub struct ImageUsage {
    /// As in the list of images.
    pub image: ImageRow,
    /// Bytes of layers that other images have too.
    pub shared: u64,
}

/// A volume.
#[derive(Clone, Debug, Default)]
pub struct VolumeUsage {
    /// As `volume inspect` has it.
    pub volume: Volume,
    /// Containers that use it.
    pub links: usize,
    /// Bytes.
    pub size: u64,
}

impl Engine {
    /// What everything takes.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.bounds().check_unlabelled("what everything takes")?;
        let containers = self.list(&ListRequest { all: true, size: true, filters: Map::new(), last: None })?;
        let mut usage = DiskUsage { containers, ..DiskUsage::default() };
        self.image_usage(&mut usage)?;
        usage.volumes = self.volume_usage()?;
        Ok(usage)
    }

    fn image_usage(&self, usage: &mut DiskUsage) -> Result<()> {
        let store = self.images();
        let (images, sizes, documents) = self.read(|connection| {
            let mut images = Vec::new();
            for image in store.list(connection)? {
                let mut listed = row(&image);
                listed.containers = containers_of(connection, &image.id)?.len();
                images.push((listed, store.layer_sizes(connection, &image.id)?));
            }
            Ok((
                images,
                store.layers_on_disk(connection)?,
                tree::size(&self.root().join("content")) + tree::size(&self.root().join("merged")),
            ))
        })?;
        let mut users: HashMap<&str, (usize, bool)> = HashMap::new();
        for (image, layers) in &images {
            for (layer, _) in layers {
                let entry = users.entry(layer).or_default();
                *entry = (entry.0 + 1, entry.1 || image.containers > 0);
            }
        }
        usage.images_size = sizes.values().sum::<u64>() + documents;
        let unused = sizes.iter().filter(|(layer, _)| users.get(layer.as_str()).is_none_or(|(_, used)| !used));
        usage.images_reclaimable = unused.map(|(_, size)| size).sum();
        if images.iter().all(|(image, _)| image.containers == 0) {
            usage.images_reclaimable += documents;
        }
        let shared = |layers: &[(String, u64)]| {
            layers
                .iter()
                .filter(|(layer, _)| users.get(layer.as_str()).is_some_and(|(count, _)| *count > 1))
                .map(|(_, size)| size)
                .sum()
        };
        usage.images =
            images.iter().map(|(image, layers)| ImageUsage { image: image.clone(), shared: shared(layers) }).collect();
        Ok(())
    }

    fn volume_usage(&self) -> Result<Vec<VolumeUsage>> {
        let rows = self.read(|connection| {
            let with_links =
                |row: volume_table::VolumeRow| Ok((volume_table::users(connection, &row.name)?.len(), row));
            volume_table::all(connection)?.into_iter().map(with_links).collect::<Result<Vec<_>>>()
        })?;
        let usage = |(links, row): (usize, volume_table::VolumeRow)| VolumeUsage {
            size: tree::size(&self.paths().volume(&row.name)),
            volume: row.shown(self.paths()),
            links,
        };
        Ok(rows.into_iter().map(usage).collect())
    }
}
