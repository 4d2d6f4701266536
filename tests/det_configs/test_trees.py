"""The config of the tree crowns trains and tests on what the tool writes."""

from __future__ import annotations

from mmengine.runner import Runner

from tests.configs import load_config
from tests.trees_wheel import make_wheel
from tools.make_trees_dataset import main


def test_it_trains_and_tests_on_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wheel = make_wheel(tmp_path / 'deepforest.whl')
    assert main(['--wheel', str(wheel), '--tile', '100', '--overlap', '20']) == 0
    config = load_config('det_configs/trees_cascade_boxes.py')
    assert config.load_from == 'work_dirs/quickstart/cascade/epoch_2.pth'
    config.update(load_from=None, work_dir=str(tmp_path / 'work'))
    config.train_cfg.max_epochs = 1
    config.train_dataloader.dataset.times = 1
    config.train_dataloader.dataset.dataset.pipeline[3].crop_size = (64, 64)
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2  # eight tiles, four in a step
    assert 'coco/bbox_mAP' in runner.test()
