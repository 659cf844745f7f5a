from tests.soak_construction import SoakConfig, soak


def test_a_run_that_is_killed_ends_with_the_same_answers(tmp_path):
    result = soak(SoakConfig(calls=300, concurrency=32, faults=0.2, kills=2), tmp_path)
    assert result.answered + result.failed == 300 and result.failed and result.repeated == 0
