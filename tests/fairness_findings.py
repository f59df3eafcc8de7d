"""A whole ``fairness.json``, every part present, built around two real audits."""

import numpy as np
from test_fairness_audit import corpus

from unmasked.fairness.run import audit_predictions

BY = ["gender", "skin_tone_group", "gender × skin_tone_group"]


def complete(n_boot=200, n_perm=200):
    """Two datasets, the second with a planted miss for dark skin, and every part that the report can show."""
    options = {"n_boot": n_boot, "n_perm": n_perm}
    audits = {
        "FaceForensics++": audit_predictions(corpus(11), BY, **options).to_dict(),
        "Celeb-DF-v2": audit_predictions(corpus(0, tpr_dark=0.5), BY, **options).to_dict(),
    }
    rng = np.random.default_rng(0)
    for name, audit in audits.items():
        audit["settings"] |= {"dataset": name, "detector": "UCF", "checkpoint": "ab" * 32}
        audit["settings"]["annotation"] = "AI-Face v2"
        for attribute, found in audit["attributes"].items():
            found |= statistics(attribute, found, rng)
        audit["bench"] = bench(audit)
        audit["operating_points"] = operating_points(audit)
        audit["strata"] = strata(audit)
    return {"datasets": audits, "skipped": {"WildDeepfake: gender": "unknown in every row"}} | across()


def of_one(audit, name="corpus"):
    """The ``fairness.json`` of one dataset alone."""
    return {"datasets": {name: audit}}


def statistics(attribute, found, rng):
    names = [entry["group"] for entry in found["groups"]]
    for entry in found["groups"]:
        entry |= {"ece": 0.08, "ece_ci": [0.05, 0.14]}
    edges = np.linspace(0, 1, 21).tolist()
    scores = [
        {
            "group": group,
            "label": label,
            "edges": edges,
            "counts": rng.multinomial(60, np.linspace(1, 9, 20)[:: 1 if label else -1] / 100).tolist(),
        }
        for group in names
        for label in (0, 1)
    ]
    calibration = [
        {"group": group, "score": [0.1, 0.4, 0.8], "share_fake": [0.2, 0.5, 0.95], "n": [20, 30, 40]}
        for group in names
    ]
    cross = [
        {"positives_of": one, "negatives_of": other, "auc": 0.9, "auc_ci": [0.85, 0.95]}
        for one in names
        for other in names
        if one != other
    ]
    spread = {name: {"raw": 0.12, "corrected": 0.05, "corrected_ci": [0.0, 0.11]} for name in ("fpr", "tpr")}
    return {"scores": scores, "calibration": calibration, "cross_auc": cross, "spread": spread}


def bench(audit):
    def of(scale):
        return {
            attribute: dict.fromkeys(("F_FPR", "F_EO", "F_MEO", "F_DP", "F_OAE"), 12.345 * scale)
            | {"groups": [entry["group"] for entry in found["groups"]], "dropped": {"child": "only real"}}
            for attribute, found in audit["attributes"].items()
        }

    return {"attributes": of(1), "constant": of(0), "note": "A group without one of the classes is dropped."}


def operating_points(audit):
    points = []
    for rule, value in (("eer", 0.496), ("fpr:0.10", 0.633), ("fixed", 0.5)):
        attributes = {
            attribute: [
                {
                    "group": entry["group"],
                    "fpr": entry["fpr"],
                    "fpr_ci": entry["fpr_ci"],
                    "tpr": entry["tpr"],
                    "tpr_ci": entry["tpr_ci"],
                    "real_videos": entry["support"]["real_videos"],
                    "fake_videos": entry["support"]["fake_videos"],
                }
                for entry in found["groups"]
            ]
            for attribute, found in audit["attributes"].items()
        }
        fitted_on = "" if rule == "fixed" else "FaceForensics++, val split"
        points.append({"rule": rule, "value": value, "fitted_on": fitted_on, "attributes": attributes})
    return points


def strata(audit):
    levels = [
        {
            "level": "Deepfakes",
            "gap": 0.3,
            "gap_ci": [0.1, 0.5],
            "p_value": 0.01,
            "worst_group": "dark",
            "n": 36,
        },
        {
            "level": "FaceSwap",
            "gap": 0.25,
            "gap_ci": [0.0, 0.5],
            "p_value": 0.2,
            "worst_group": "light",
            "n": 36,
        },
        {
            "level": "Face2Face",
            "gap": None,
            "gap_ci": [None, None],
            "p_value": None,
            "worst_group": None,
            "n": 4,
        },
    ]
    return [
        {
            "by": "method",
            "attribute": "skin_tone_group",
            "metric": "tpr",
            "pooled": {"gap": 0.05, "worst_group": "dark"},
            "levels": levels,
            "averaged": 0.275,
            "simpson": True,
            "note": "The worst group changes from method to method.",
        }
    ]


def across():
    changes = [
        {
            "attribute": "skin_tone_group",
            "metric": "tpr",
            "source": "FaceForensics++",
            "target": "Celeb-DF-v2",
            "gap_source": 0.05,
            "gap_target": 0.4,
            "change": 0.35,
            "change_ci": [0.1, 0.6],
            "note": "",
        }
    ]
    perturbations = [
        {
            "dataset": "Celeb-DF-v2",
            "perturbation": perturbation,
            "severity": severity,
            "attribute": "skin_tone_group",
            "group": group,
            "metric": metric,
            "value": 0.1 + 0.1 * severity + 0.05 * place,
            "ci": [0.05 + 0.1 * severity, 0.3 + 0.1 * severity],
            "change": 0.1 * severity,
            "change_ci": [0.02, 0.1 * severity + 0.05],
        }
        for perturbation in ("jpeg", "blur")
        for severity in (1, 3, 5)
        for metric in ("fpr", "tpr")
        for place, group in enumerate(("light", "medium", "dark"))
    ]
    perturbation_gaps = [
        {
            "dataset": "Celeb-DF-v2",
            "perturbation": "blur",
            "severity": 5,
            "attribute": "skin_tone_group",
            "metric": metric,
            "gap_clean": 0.1,
            "gap": 0.4,
            "change": 0.3,
            "change_ci": [0.1, 0.5],
            "note": "",
            "difference": 0.3,
            "difference_ci": [0.05, 0.5],
            "changes": [0.5, 0.2],
            "chance": 0.2,
            "p_adjusted": p_adjusted,
            "worst_group": "dark",
            "best_group": "light",
        }
        for metric, p_adjusted in (("fpr", 0.01), ("tpr", 0.6))
    ]
    annotation = {
        "FaceForensics++": {
            "conflicts": [{"attribute": "gender", "videos": 180, "conflicting": 4}],
            "agreement": [{"attribute": "gender", "share": 0.98, "kappa": 0.95, "videos": 180}],
            "sensitivity": [
                {
                    "attribute": "skin_tone_group",
                    "metric": "tpr",
                    "noise": noise,
                    "gap": 0.4,
                    "gap_mean": 0.4 - noise,
                    "gap_low": 0.3 - noise,
                    "gap_high": 0.5 - noise,
                }
                for noise in (0.05, 0.1, 0.2)
            ],
        }
    }
    return {
        "changes": changes,
        "perturbations": perturbations,
        "perturbation_gaps": perturbation_gaps,
        "annotation": annotation,
        "mitigation": mitigation(),
    }


def mitigation():
    def rates(gap, balanced):
        return {"gap": gap, "fpr": gap / 2, "tpr": 0.9, "balanced_accuracy": balanced, "worst_group": "dark"}

    return {
        "methods": [
            {
                "name": name,
                "kind": "post-processing",
                "metric": "fpr",
                "utility": "balanced_accuracy",
                "worst_group_gain": 0.2,
                "tpr_change_at_same_fpr": -0.01,
                "tpr_change_at_same_fpr_ci": [-0.03, 0.01],
                "group_unknown": {"gap": 0.4, "balanced_accuracy": 0.82},
                "group_wrong": {
                    "share": 0.2,
                    "gap_mean": 0.2,
                    "gap_low": 0.1,
                    "gap_high": 0.3,
                    "balanced_accuracy": 0.8,
                },
                "randomised": name == "threshold_optimizer",
                "fitted_on": "FaceForensics++, val split",
                "applied_to": "Celeb-DF-v2",
                "attribute": "skin_tone_group",
                "before": rates(0.4, 0.82),
                "after": rates(after, balanced),
                "gap_change": after - 0.4,
                "gap_change_ci": [after - 0.6, after - 0.2],
                "utility_change": balanced - 0.82,
                "utility_change_ci": [balanced - 0.87, balanced - 0.77],
                "levelling_down": name == "group_platt",
                "warning": "Needs the group at decision time." if name == "group_thresholds" else "",
            }
            for name, after, balanced in (
                ("group_thresholds", 0.1, 0.81),
                ("threshold_optimizer", 0.12, 0.78),
                ("group_platt", 0.3, 0.7),
            )
        ]
    }
