//! An ONNX model with fewer blocks: weights that stay keep their bytes, or get those of a checkpoint.

use std::collections::BTreeSet;
use std::path::Path;

use niwaki_onnx::edit::{bypass, drop_unneeded};
use niwaki_onnx::proto::GraphProto;
use niwaki_tensors::Overwrite;

use super::{Cost, Network};
use crate::error::{Error, ErrorKind};
use crate::layers::Removable;
use crate::model::Replaced;
use crate::source::Opened;
use crate::train::Filled;

/// What came of a removal.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The blocks that went, in the order in which they ran.
    pub removed: Vec<usize>,
    /// The blocks that stayed, by their old numbers.
    pub kept: Vec<usize>,
    /// What an example costs before and after.
    pub costs: [Cost; 2],
    /// Bytes of the model's own file before, and after.
    pub bytes: [u64; 2],
    /// What became of the weights where they are those of a checkpoint.
    pub replaced: Option<Replaced>,
}

impl Network {
    /// Writes the model without some of its blocks, with its own weights or, where it is rewound, with those of a checkpoint.
    ///
    /// Nodes that nothing needs any more go, and the weights that only they took. All other weights keep their bytes.
    ///
    /// # Errors
    ///
    /// Blocks that may not go; a block within a function of the model; a checkpoint whose tensors do not fit; those of
    /// measuring, reading and writing. The output is then as it was.
    pub fn remove(
        &self,
        (blocks, removable): (&[usize], Removable),
        rewind: Option<&Opened>,
        (out, overwrite): (&Path, Overwrite),
    ) -> Result<Written, Error> {
        self.check(blocks, removable)?;
        let path = self.model.path();
        let (mut file, replaced) = match rewind {
            None => (Filled::as_it_is(path)?, None),
            Some(opened) => {
                let mut model = self.model.clone();
                let replaced = model.set_weights(opened)?;
                (Filled::of(&model)?, Some(replaced))
            }
        };
        let missing = || Error::from(ErrorKind::Unlike { what: "a file without a graph".to_owned() }).at(path);
        let graph = file.proto.graph.as_mut().ok_or_else(missing)?;
        self.edit(graph, blocks)?;
        let costs = [self.cost(&[])?, self.cost(blocks)?];
        file.save(out, overwrite)?;
        let removed: BTreeSet<usize> = blocks.iter().copied().collect();
        let size = |path: &Path| path.metadata().map_or(0, |data| data.len());
        Ok(Written {
            kept: (0..self.blocks.len()).filter(|at| !removed.contains(at)).collect(),
            removed: removed.into_iter().collect(),
            costs,
            bytes: [size(path), size(out)],
            replaced,
        })
    }

    /// Takes blocks out of the graph of the file, with all that only they needed.
    ///
    /// # Errors
    ///
    /// A block within a function of the model.
    pub(in crate::layers) fn edit(&self, graph: &mut GraphProto, blocks: &[usize]) -> Result<(), Error> {
        for (value, by) in self.bypasses(blocks) {
            let [value, by] = [value, by].map(|value| self.model.graph().name(value));
            self.has(graph, value)?;
            self.has(graph, by)?;
            bypass(graph, value, by);
        }
        drop_unneeded(graph);
        Ok(())
    }

    /// Refuses a value that is none of the file's own graph.
    fn has(&self, graph: &GraphProto, name: &str) -> Result<(), Error> {
        let made = graph.node.iter().any(|node| node.output.iter().any(|output| output == name));
        if made || graph.input.iter().any(|input| input.name() == name) {
            return Ok(());
        }
        let what = format!("removing a block within a function, at `{name}`,");
        let error = Error::from(ErrorKind::Unsupported { what }).at(self.model.path());
        Err(error.hinting("export the model without functions"))
    }
}
