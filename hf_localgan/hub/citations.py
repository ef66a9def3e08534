"""BibTeX entries of the papers whose methods are trained or used, for model cards."""

LOCALGAN = """@unpublished{localgan2020,
  title = {{LocalGAN}: Modeling Local Distributions for Adversarial Response Generation},
  author = {Xu, Zhen and Wang, Baoxun and Zhang, Huan and Qiu, Kexin and Zhang, Deyuan and Sun, Chengjie},
  note = {Submission to the International Conference on Learning Representations},
  year = {2020}
}
@article{localgan2021,
  title = {{LocalGAN}: Modeling Local Distributions for Adversarial Response Generation},
  author = {Wang, Baoxun and Xu, Zhen and Zhang, Huan and Qiu, Kexin and Zhang, Deyuan and Sun, Chengjie},
  journal = {Journal of Machine Learning Research},
  volume = {22},
  pages = {1--29},
  year = {2021}
}"""
DEEP_BOLTZMANN_MACHINES = """@inproceedings{salakhutdinov2009dbm,
  title = {Deep {Boltzmann} Machines},
  author = {Salakhutdinov, Ruslan and Hinton, Geoffrey},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2009}
}"""
GAN_AEL = """@inproceedings{xu2017ganael,
  title = {Neural Response Generation via {GAN} with an Approximate Embedding Layer},
  author = {Xu, Zhen and Liu, Bingquan and Wang, Baoxun and Sun, Chengjie and Wang, Xiaolong and Wang, Zhuoran
            and Qi, Chao},
  booktitle = {Empirical Methods in Natural Language Processing},
  year = {2017}
}"""
RAML = """@inproceedings{norouzi2016raml,
  title = {Reward Augmented Maximum Likelihood for Neural Structured Prediction},
  author = {Norouzi, Mohammad and Bengio, Samy and Chen, Zhifeng and Jaitly, Navdeep and Schuster, Mike and Wu, Yonghui
            and Schuurmans, Dale},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2016}
}"""
REINFORCE = """@article{williams1992reinforce,
  title = {Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning},
  author = {Williams, Ronald J.},
  journal = {Machine Learning},
  year = {1992}
}"""
CONVOLUTIONAL_CLASSIFIER = """@inproceedings{kim2014cnn,
  title = {Convolutional Neural Networks for Sentence Classification},
  author = {Kim, Yoon},
  booktitle = {Empirical Methods in Natural Language Processing},
  year = {2014}
}"""
SEQ2SEQ = """@inproceedings{sutskever2014seq2seq,
  title = {Sequence to Sequence Learning with Neural Networks},
  author = {Sutskever, Ilya and Vinyals, Oriol and Le, Quoc V.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2014}
}"""
ADVER_REGS = """@inproceedings{li2017adversarial,
  title = {Adversarial Learning for Neural Dialogue Generation},
  author = {Li, Jiwei and Monroe, Will and Shi, Tianlin and Jean, S{\\'e}bastien and Ritter, Alan and Jurafsky, Dan},
  booktitle = {Empirical Methods in Natural Language Processing},
  year = {2017}
}"""
AIM = """@inproceedings{zhang2018aim,
  title = {Generating Informative and Diverse Conversational Responses via Adversarial Information Maximization},
  author = {Zhang, Yizhe and Galley, Michel and Gao, Jianfeng and Gan, Zhe and Li, Xiujun and Brockett, Chris and
            Dolan, Bill},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2018}
}"""
LISTEN_ATTEND_AND_SPELL = """@inproceedings{chan2016las,
  title = {Listen, Attend and Spell: A Neural Network for Large Vocabulary Conversational Speech Recognition},
  author = {Chan, William and Jaitly, Navdeep and Le, Quoc V. and Vinyals, Oriol},
  booktitle = {International Conference on Acoustics, Speech and Signal Processing},
  year = {2016}
}"""
