"""The works that the text about networks and their explanations cites."""

from __future__ import annotations

from bids_xai.reports.publications import Reference

NETWORKS: dict[str, Reference] = {
    "boehle2019": Reference(
        "Böhle et al., 2019",
        "Böhle, Moritz and Eitel, Fabian and Weygandt, Martin and Ritter, Kerstin",
        "Layer-wise relevance propagation for explaining deep neural network decisions in MRI-based "
        "Alzheimer’s disease classification",
        "Frontiers in Aging Neuroscience", 2019, "11:194", "10.3389/fnagi.2019.00194",
    ),
    "eitel2019": Reference(
        "Eitel et al., 2019",
        "Eitel, Fabian and Soehler, Emily and Bellmann-Strobl, Judith and Brandt, Alexander U. and others",
        "Uncovering convolutional neural network decisions for diagnosing multiple sclerosis on conventional "
        "MRI using layer-wise relevance propagation",
        "NeuroImage: Clinical", 2019, "24:102003", "10.1016/j.nicl.2019.102003",
    ),
    "eitel2019robustness": Reference(
        "Eitel & Ritter, 2019", "Eitel, Fabian and Ritter, Kerstin",
        "Testing the robustness of attribution methods for convolutional neural networks in MRI-based "
        "Alzheimer’s disease classification",
        "Interpretability of Machine Intelligence in Medical Image Computing (iMIMIC)",
        2019, "", "10.48550/arXiv.1909.08856", "inproceedings",
    ),
    "klingenberg2021": Reference(
        "Klingenberg et al., 2021",
        "Klingenberg, Malte and Stark, Didem and Eitel, Fabian and Ritter, Kerstin",
        "MRI image registration considerably improves CNN-based disease classification",
        "Machine Learning in Clinical Neuroimaging (MLCN)", 2021, "", "", "inproceedings",
    ),
    "eitel2021": Reference(
        "Eitel et al., 2021",
        "Eitel, Fabian and Albrecht, Jan Philipp and Weygandt, Martin and Paul, Friedemann and "
        "Ritter, Kerstin",
        "Patch individual filter layers in CNNs to harness the spatial homogeneity of neuroimaging data",
        "Scientific Reports", 2021, "11:24447", "10.1038/s41598-021-03785-9",
    ),
    "montavon2019": Reference(
        "Montavon et al., 2019",
        "Montavon, Grégoire and Binder, Alexander and Lapuschkin, Sebastian and Samek, Wojciech and "
        "Müller, Klaus-Robert",
        "Layer-wise relevance propagation: an overview",
        "Explainable AI: Interpreting, Explaining and Visualizing Deep Learning",
        2019, "11700:193–209", "10.1007/978-3-030-28954-6_10", "inproceedings",
    ),
    "kohlbrenner2020": Reference(
        "Kohlbrenner et al., 2020",
        "Kohlbrenner, Maximilian and Bauer, Alexander and Nakajima, Shinichi and Binder, Alexander and "
        "Samek, Wojciech and Lapuschkin, Sebastian",
        "Towards best practice in explaining neural network decisions with LRP",
        "International Joint Conference on Neural Networks (IJCNN)",
        2020, "", "10.1109/IJCNN48605.2020.9206975", "inproceedings",
    ),
    "selvaraju2017": Reference(
        "Selvaraju et al., 2017",
        "Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and "
        "Parikh, Devi and Batra, Dhruv",
        "Grad-CAM: visual explanations from deep networks via gradient-based localization",
        "IEEE International Conference on Computer Vision (ICCV)",
        2017, "", "10.1109/ICCV.2017.74", "inproceedings",
    ),
    "simonyan2014": Reference(
        "Simonyan et al., 2014", "Simonyan, Karen and Vedaldi, Andrea and Zisserman, Andrew",
        "Deep inside convolutional networks: visualising image classification models and saliency maps",
        "International Conference on Learning Representations, workshop track",
        2014, "", "10.48550/arXiv.1312.6034", "inproceedings",
    ),
    "springenberg2015": Reference(
        "Springenberg et al., 2015",
        "Springenberg, Jost Tobias and Dosovitskiy, Alexey and Brox, Thomas and Riedmiller, Martin",
        "Striving for simplicity: the all convolutional net",
        "International Conference on Learning Representations, workshop track",
        2015, "", "10.48550/arXiv.1412.6806", "inproceedings",
    ),
    "sundararajan2017": Reference(
        "Sundararajan et al., 2017", "Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi",
        "Axiomatic attribution for deep networks",
        "Proceedings of the 34th International Conference on Machine Learning",
        2017, "70:3319–3328", "", "inproceedings",
    ),
    "shrikumar2016": Reference(
        "Shrikumar et al., 2016",
        "Shrikumar, Avanti and Greenside, Peyton and Shcherbina, Anna and Kundaje, Anshul",
        "Not just a black box: learning important features through propagating activation differences",
        "arXiv", 2016, "1605.01713", "10.48550/arXiv.1605.01713", "misc",
    ),
    "zeiler2014": Reference(
        "Zeiler & Fergus, 2014", "Zeiler, Matthew D. and Fergus, Rob",
        "Visualizing and understanding convolutional networks",
        "Computer Vision – ECCV 2014", 2014, "8689:818–833", "10.1007/978-3-319-10590-1_53", "inproceedings",
    ),
    "adebayo2018": Reference(
        "Adebayo et al., 2018",
        "Adebayo, Julius and Gilmer, Justin and Muelly, Michael and Goodfellow, Ian and Hardt, Moritz and "
        "Kim, Been",
        "Sanity checks for saliency maps",
        "Advances in Neural Information Processing Systems", 2018, "31", "", "inproceedings",
    ),
    "samek2017": Reference(
        "Samek et al., 2017",
        "Samek, Wojciech and Binder, Alexander and Montavon, Grégoire and Lapuschkin, Sebastian and "
        "Müller, Klaus-Robert",
        "Evaluating the visualization of what a deep neural network has learned",
        "IEEE Transactions on Neural Networks and Learning Systems",
        2017, "28:2660–2673", "10.1109/TNNLS.2016.2599820",
    ),
    "mantel1967": Reference(
        "Mantel, 1967", "Mantel, Nathan",
        "The detection of disease clustering and a generalized regression approach",
        "Cancer Research", 1967, "27:209–220",
    ),
    "mcinnes2018": Reference(
        "McInnes et al., 2018",
        "McInnes, Leland and Healy, John and Saul, Nathaniel and Großberger, Lukas",
        "UMAP: uniform manifold approximation and projection",
        "Journal of Open Source Software", 2018, "3:861", "10.21105/joss.00861",
    ),
    "kriegeskorte2008": Reference(
        "Kriegeskorte et al., 2008",
        "Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter A.",
        "Representational similarity analysis – connecting the branches of systems neuroscience",
        "Frontiers in Systems Neuroscience", 2008, "2:4", "10.3389/neuro.06.004.2008",
    ),
    "wilcoxon1945": Reference(
        "Wilcoxon, 1945", "Wilcoxon, Frank",
        "Individual comparisons by ranking methods",
        "Biometrics Bulletin", 1945, "1:80–83", "10.2307/3001968",
    ),
    "pytorch2019": Reference(
        "Paszke et al., 2019",
        "Paszke, Adam and Gross, Sam and Massa, Francisco and others",
        "PyTorch: an imperative style, high-performance deep learning library",
        "Advances in Neural Information Processing Systems", 2019, "32:8024–8035", "", "inproceedings",
    ),
}  # fmt: skip

MODEL_REFERENCES: dict[str, str] = {
    "boehle2019": "boehle2019",
    "eitel2019": "eitel2019",
    **dict.fromkeys(
        [f"{name}-{kind}{end}" for name in ("adni", "ukb", "ms") for kind in "ab" for end in ("", "-pif")]
        + ["patch-based"],
        "eitel2021",
    ),
}
EXPLANATION_REFERENCES: dict[str, str] = {
    "saliency": "simonyan2014",
    "gradient-x-input": "shrikumar2016",
    "integrated-gradients": "sundararajan2017",
    "guided-backprop": "springenberg2015",
    "grad-cam": "selvaraju2017",
    "guided-grad-cam": "selvaraju2017; @springenberg2015",
    "deep-taylor": "montavon2017",
    "lrp-0": "bach2015",
    "lrp-epsilon": "bach2015",
    "lrp-alpha-beta": "bach2015",
    "lrp-gamma": "montavon2019",
    "lrp-composite": "montavon2019; @kohlbrenner2020",
    "occlusion": "zeiler2014",
    "region-occlusion": "zeiler2014",
}
