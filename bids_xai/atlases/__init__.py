"""Atlases by name or file, and what maps hold within their regions."""

from dataclasses import dataclass

from bids_xai.registry import Entry, Registry


@dataclass(frozen=True)
class AtlasEntry(Entry):
    """An atlas: ``space`` is the BIDS name of its space, ``MNI152`` where its source says no more."""

    space: str = ""


ATLASES = Registry(
    "atlas",
    AtlasEntry(
        "aal",
        "bids_xai.atlases.packaged:AAL",
        "Automated Anatomical Labeling 2: 120 regions of one person's brain",
        "Rolls et al. 2015, doi:10.1016/j.neuroimage.2015.07.075",
        space="MNIColin27",
    ),
    AtlasEntry(
        "desikan-killiany",
        "bids_xai.atlases.packaged:DESIKAN_KILLIANY",
        "FreeSurfer's aparc+aseg: gyri, subcortical structures, white matter",
        "Desikan et al. 2006, doi:10.1016/j.neuroimage.2006.01.021",
        space="MNI152",
    ),
    AtlasEntry(
        "destrieux",
        "bids_xai.atlases.packaged:DESTRIEUX",
        "FreeSurfer's aparc.a2009s+aseg: gyri and sulci, subcortical structures, white matter",
        "Destrieux et al. 2010, doi:10.1016/j.neuroimage.2010.06.010",
        space="MNI152",
    ),
    AtlasEntry(
        "harvard-oxford",
        "bids_xai.atlases.packaged:HARVARD_OXFORD",
        "Harvard-Oxford cortical and subcortical structures, most probable with at least 25 %",
        "Desikan et al. 2006, doi:10.1016/j.neuroimage.2006.01.021",
        space="MNI152NLin6Asym",
    ),
    AtlasEntry(
        "juelich",
        "bids_xai.atlases.packaged:JUELICH",
        "Jülich histological atlas, most probable area with at least 25 %",
        "Eickhoff et al. 2005, doi:10.1016/j.neuroimage.2004.12.034",
        space="MNI152NLin6Asym",
    ),
    AtlasEntry(
        "neuromorphometrics",
        "bids_xai.atlases.packaged:NEUROMORPHOMETRICS",
        "maximum probability labels of SPM12, provided by Neuromorphometrics, Inc.",
        "Landman and Warfield 2012, MICCAI workshop on multi-atlas labeling",
        space="IXI549Space",
    ),
    AtlasEntry(
        "marsatlas",
        "bids_xai.atlases.packaged:MARSATLAS",
        "MarsAtlas on the brain of Colin: cortical regions for functional mapping, subcortical structures",
        "Auzias et al. 2016, doi:10.1002/hbm.23121",
        space="MNIColin27",
    ),
    AtlasEntry(
        "aicha",
        "bids_xai.atlases.packaged:AICHA",
        "Atlas of Intrinsic Connectivity of Homotopic Areas: 192 pairs of functional regions",
        "Joliot et al. 2015, doi:10.1016/j.jneumeth.2015.07.013",
        space="MNI152",
    ),
    AtlasEntry(
        "talairach-gyrus",
        "bids_xai.atlases.packaged:TALAIRACH_GYRUS",
        "gyri of the Talairach atlas, brought to MNI space",
        "Lancaster et al. 2000, doi:10.1002/1097-0193(200007)10:3<120::AID-HBM30>3.0.CO;2-8",
        space="MNI152NLin6Asym",
    ),
    AtlasEntry(
        "talairach-ba",
        "bids_xai.atlases.packaged:TALAIRACH_BA",
        "Brodmann areas and nuclei of the Talairach atlas, brought to MNI space",
        "Lancaster et al. 2000, doi:10.1002/1097-0193(200007)10:3<120::AID-HBM30>3.0.CO;2-8",
        space="MNI152NLin6Asym",
    ),
)
