"""Names and purposes of all commands."""

PROG = "hf-localgan"
# Every command by group, with its purpose.
COMMANDS = {
    "training": {
        "train-mle": "a generator by maximum likelihood",
        "train-raml": "a generator by reward augmented maximum likelihood (RAML)",
        "train-expected-reward": "a generator by expected reward, policy gradient on BLEU and its like",
        "train-dbm": "an energy: a deep Boltzmann machine over queries and responses",
        "train-matching": "a discriminator that tells whether a response belongs to a query",
        "train-localgan": "a generator by LocalGAN, after the models that it needs",
        "train-speech": "a recogniser of speech, by maximum likelihood or RAML",
        "train-gan-ael": "a generator by GAN-AEL, the nearest rival",
        "train-adver-regs": "a generator by Adver-REGS, policy gradient on a discriminator",
        "train-aim": "a generator by AIM, whose responses keep what the query was",
        "train-daim": "two generators by DAIM, each the other's reader",
        "reproduce": "all systems of the paper from one start per seed, side by side",
    },
    "using": {
        "chat": "ask a generator, in a terminal or from a pipe",
        "evaluate": "answer a test split and score the answers",
        "compare": "compare trained generators over several seeds",
        "tau-curve": "draw BLEU over the temperature of RAML",
        "rank": "rank responses to a query by an energy",
        "demo": "compare generators on a local page",
        "annotate": "have people judge answers: sheets, a page, scores and tests",
        "metrics-against-people": "correlate the metrics with people's scores",
        "transcribe": "transcribe sound files",
    },
    "publishing and help": {
        "card": "write the model card of a finished output folder anew",
        "export": "write a checkpoint that loads without this package",
        "smalltalk": "write the shipped corpus as a data set for the Hub",
        "env": "print versions and devices, for a report of a fault",
        "completion": "print a script that completes commands and options in a shell",
    },
}
MODULES = {name: name.replace("-", "_") for group in COMMANDS.values() for name in group}
PURPOSES = {name: purpose for group in COMMANDS.values() for name, purpose in group.items()}
