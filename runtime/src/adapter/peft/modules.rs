//! The paths of modules in each class, and the places that they are.

use super::Layout;
use crate::model::{ProjectorKind, Site};

/// Where a class has its parts.
struct Paths {
    embedding: &'static str,
    layers: &'static str,
    output: &'static str,
    blocks: &'static str,
    projector: [&'static str; 2],
}

impl Layout {
    fn paths(self) -> Paths {
        match self {
            Self::CausalLm => Paths {
                embedding: "model.embed_tokens",
                layers: "model.layers",
                output: "lm_head",
                blocks: "model.vision_tower.vision_tower.vision_model.encoder.layers",
                projector: ["model.mm_projector.0", "model.mm_projector.2"],
            },
            Self::Llava => Paths {
                embedding: "model.language_model.embed_tokens",
                layers: "model.language_model.layers",
                output: "lm_head",
                blocks: "model.vision_tower.encoder.layers",
                projector: [
                    "model.multi_modal_projector.linear_1",
                    "model.multi_modal_projector.linear_2",
                ],
            },
            Self::LlavaBefore5 => Paths {
                blocks: "model.vision_tower.vision_model.encoder.layers",
                ..Self::Llava.paths()
            },
            Self::LlavaBefore452 => Paths {
                embedding: "language_model.model.embed_tokens",
                layers: "language_model.model.layers",
                output: "language_model.lm_head",
                blocks: "vision_tower.vision_model.encoder.layers",
                projector: [
                    "multi_modal_projector.linear_1",
                    "multi_modal_projector.linear_2",
                ],
            },
        }
    }

    /// The module at a site.
    pub(super) fn module(self, site: Site) -> String {
        let paths = self.paths();
        match site {
            Site::Embedding => paths.embedding.into(),
            Site::Layer { .. } => {
                let path = site.hf_path();
                let rest = path.strip_prefix("model.layers");
                format!("{}{}", paths.layers, rest.expect("how Site spells it"))
            }
            Site::Output => paths.output.into(),
            Site::Tower { block, linear } => {
                format!("{}.{block}.{}", paths.blocks, linear.hf_name())
            }
            Site::Projector(linear) => paths.projector[linear as usize].into(),
        }
    }
}

impl Paths {
    /// Of a bare `LlamaModel`, whose adapters reach no output, and of parts by themselves.
    const BARE: Self = Self {
        embedding: "embed_tokens",
        layers: "layers",
        output: "lm_head",
        blocks: "vision_tower.encoder.layers",
        projector: ["mm_projector.0", "mm_projector.2"],
    };

    fn site(&self, module: &str) -> Option<Site> {
        let inside = |list: &str| module.strip_prefix(list)?.strip_prefix('.');
        let projector = ProjectorKind::ALL.into_iter().zip(self.projector);
        if module == self.embedding {
            Some(Site::Embedding)
        } else if module == self.output {
            Some(Site::Output)
        } else if let Some(rest) = inside(self.layers) {
            Site::parse_hf(rest)
        } else if let Some(rest) = inside(self.blocks) {
            Site::parse_hf_block(rest)
        } else {
            let mut projector = projector.filter(|(_, path)| *path == module);
            projector.next().map(|(kind, _)| Site::Projector(kind))
        }
    }
}

/// The place of a module, such as `model.layers.0.self_attn.q_proj`, in whatever class.
///
/// # Errors
/// A sentence: what it is instead.
pub(in crate::adapter) fn site_of(module: &str) -> Result<Site, String> {
    let known = Layout::ALL.into_iter().map(Layout::paths);
    let site = known
        .chain([Paths::BARE])
        .find_map(|paths| paths.site(module));
    site.ok_or_else(|| {
        let what = if module.contains("patch_embedding") {
            "an adapter of the vision tower's convolution; train again without it"
        } else {
            "at no place that graft adapts; is this an adapter of a LLaMA or LLaVA model?"
        };
        format!("{module} is {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_read_back_in_every_class() {
        for layout in Layout::ALL {
            let sites = Site::of_layers(2).chain(Site::of_vision(2));
            for site in sites.chain([Site::Embedding, Site::Output]) {
                assert_eq!(site_of(&layout.module(site)), Ok(site), "{layout:?}");
            }
        }
        assert!(site_of("model.layers.0.self_attn.rotary").is_err());
        let convolution = "model.vision_tower.embeddings.patch_embedding";
        assert!(site_of(convolution).unwrap_err().contains("convolution"));
    }
}
