"""The works that the text about preprocessing cites."""

from __future__ import annotations

from bids_xai.reports.publications import Reference

PREPROCESSING: dict[str, Reference] = {
    "tustison2010": Reference(
        "Tustison et al., 2010",
        "Tustison, Nicholas J. and Avants, Brian B. and Cook, Philip A. and Zheng, Yuanjie and Egan, "
        "Alexander and Yushkevich, Paul A. and Gee, James C.",
        "N4ITK: improved N3 bias correction",
        "IEEE Transactions on Medical Imaging", 2010, "29:1310–1320", "10.1109/TMI.2010.2046908",
    ),
    "fisch2024": Reference(
        "Fisch et al., 2024",
        "Fisch, Lukas and Zumdick, Stefan and Barkhau, Carlotta and Emden, Daniel and Ernsting, Jan and "
        "Leenings, Ramona and Sarink, Kelvin and Winter, Nils R. and Risse, Benjamin and Dannlowski, Udo and "
        "Hahn, Tim",
        "deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks",
        "Computers in Biology and Medicine", 2024, "179:108845", "10.1016/j.compbiomed.2024.108845",
    ),
    "avants2008": Reference(
        "Avants et al., 2008",
        "Avants, Brian B. and Epstein, Charles L. and Grossman, Murray and Gee, James C.",
        "Symmetric diffeomorphic image registration with cross-correlation: evaluating automated labeling of "
        "elderly and neurodegenerative brain",
        "Medical Image Analysis", 2008, "12:26–41", "10.1016/j.media.2007.06.004",
    ),
    "antsx2021": Reference(
        "Tustison et al., 2021",
        "Tustison, Nicholas J. and Cook, Philip A. and Holbrook, Andrew J. and others",
        "The ANTsX ecosystem for quantitative biological and medical imaging",
        "Scientific Reports", 2021, "11:9068", "10.1038/s41598-021-87564-6",
    ),
    "friston1995": Reference(
        "Friston et al., 1995",
        "Friston, Karl J. and Ashburner, John and Frith, Christopher D. and Poline, Jean-Baptiste and "
        "Heather, John D. and Frackowiak, Richard S. J.",
        "Spatial registration and normalization of images",
        "Human Brain Mapping", 1995, "3:165–189", "10.1002/hbm.460030303",
    ),
    "power2012": Reference(
        "Power et al., 2012",
        "Power, Jonathan D. and Barnes, Kelly A. and Snyder, Abraham Z. and Schlaggar, Bradley L. and "
        "Petersen, Steven E.",
        "Spurious but systematic correlations in functional connectivity MRI networks arise from subject "
        "motion",
        "NeuroImage", 2012, "59:2142–2154", "10.1016/j.neuroimage.2011.10.018",
    ),
    "jenkinson2002": Reference(
        "Jenkinson et al., 2002",
        "Jenkinson, Mark and Bannister, Peter and Brady, Michael and Smith, Stephen",
        "Improved optimization for the robust and accurate linear registration and motion correction of "
        "brain images",
        "NeuroImage", 2002, "17:825–841", "10.1006/nimg.2002.1132",
    ),
    "smith2002": Reference(
        "Smith, 2002", "Smith, Stephen M.", "Fast robust automated brain extraction",
        "Human Brain Mapping", 2002, "17:143–155", "10.1002/hbm.10062",
    ),
    "jenkinson2012": Reference(
        "Jenkinson et al., 2012",
        "Jenkinson, Mark and Beckmann, Christian F. and Behrens, Timothy E. J. and Woolrich, Mark W. and "
        "Smith, Stephen M.",
        "FSL", "NeuroImage", 2012, "62:782–790", "10.1016/j.neuroimage.2011.09.015",
    ),
    "fmriprep2019": Reference(
        "Esteban et al., 2019",
        "Esteban, Oscar and Markiewicz, Christopher J. and Blair, Ross W. and others",
        "fMRIPrep: a robust preprocessing pipeline for functional MRI",
        "Nature Methods", 2019, "16:111–116", "10.1038/s41592-018-0235-4",
    ),
    "smriprep": Reference(
        "Esteban et al., 2021",
        "Esteban, Oscar and Markiewicz, Christopher J. and Blair, Ross W. and Poldrack, Russell A. and "
        "Gorgolewski, Krzysztof J.",
        "sMRIPrep: structural MRI preprocessing workflows",
        "Zenodo", 2021, "", "10.5281/zenodo.2650521", "misc",
    ),
}  # fmt: skip
