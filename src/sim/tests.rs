use super::*;

#[test]
fn a_calm_cluster_converges() {
    for seed in 0..16 {
        let report = run(Numbers, Settings::from_seed(seed).calm(), seed, false);
        assert!(report.violation.is_none(), "seed {seed}: {}", report.violation.unwrap());
    }
}
