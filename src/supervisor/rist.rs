//! RIST in the hall: sockets that both send and receive, and keys for their tunnels.

mod conditions;
mod part;
mod view;

use std::sync::Arc;

pub(super) use self::conditions::{output_conditions, source_conditions};
pub(super) use self::part::control_spec;
pub(super) use self::view::{output_doc, source_doc};
use crate::config::plan::RistProfile;
use crate::flow::egress::LegConfig;
use crate::flow::rist::stats::{Figures, OutputFigures, SourceFigures};
use crate::io::open::ReceiveSpec;

/// A source or output that is open by RIST.
#[derive(Debug)]
pub(super) struct RistOpen {
    /// As it was opened, or changed to since: the passphrases in use.
    profile: RistProfile,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// What the first socket of a source was opened with.
    Source(Box<ReceiveSpec>, Arc<Figures<SourceFigures>>),
    /// Where an output sends, by the number of the leg.
    Output([Option<LegConfig>; 2], Arc<Figures<OutputFigures>>),
}

impl RistOpen {
    /// The figures of a source.
    pub(super) fn received(&self) -> Option<SourceFigures> {
        if let Place::Source(_, figures) = &self.place { Some(figures.read()) } else { None }
    }

    /// The figures of an output.
    pub(super) fn sent(&self) -> Option<OutputFigures> {
        if let Place::Output(_, figures) = &self.place { Some(figures.read()) } else { None }
    }

    /// Where an output sends, by the number of the leg.
    pub(super) fn legs(&self) -> [Option<LegConfig>; 2] {
        if let Place::Output(legs, _) = &self.place { *legs } else { [None, None] }
    }

    /// What a source was opened with.
    pub(super) fn spec(&self) -> Option<&ReceiveSpec> {
        if let Place::Source(spec, _) = &self.place { Some(spec) } else { None }
    }
}
