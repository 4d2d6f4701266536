"""The blocks of docs/detectron2.md run, with the quickstart's configs for those of COCO."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model

from revcol_backbone import RevCol
from tests.configs import ROOT
from tests.golden import fill

PAGE = (ROOT / 'docs/detectron2.md').read_text(encoding='utf-8')
INSTALL, TRAIN, TEST, CONVERT = re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
OTHER_BACKBONES, YACS, INFER = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
CONFIG, SMALL = 'revcol_t_cascade.py', 'quickstart_cascade.py'


def execute(block: str) -> dict:
    found: dict = {}
    exec(compile(block, 'docs/detectron2.md', 'exec'), found)
    return found


@pytest.fixture
def checkout(tmp_path: Path, trainers: Path, digits: Path, monkeypatch) -> Path:
    """A folder like the repository's, with Detectron2's scripts, an image and a detector."""
    for name in ('det_configs', 'base_configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ('detectron2', 'output'):
        (tmp_path / name).mkdir()
    (tmp_path / 'detectron2/tools').symlink_to(trainers)
    shutil.copy(next((digits / 'images/val').glob('*.jpg')), tmp_path / 'image.jpg')
    config = LazyConfig.load(str(ROOT / 'det_configs/detectron2' / SMALL))
    model = instantiate(config.model)
    DetectionCheckpointer(model, str(tmp_path / 'output')).save('model_final')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, settings: Sequence[str] = ()) -> str:
    (line,) = block.replace('\\\n', '').replace(CONFIG, SMALL).strip().splitlines()
    command = shlex.split(line.replace('--num-gpus 8', '--num-gpus 0'))
    done = subprocess.run([*command, *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_what_is_installed_has_its_extra() -> None:
    extras = (ROOT / 'setup.cfg').read_text().partition('[options.extras_require]')[2]
    assert "'.[detectron2]'" in INSTALL
    assert '\ndetectron2 =\n' in extras


def test_a_detector_trains_and_is_tested(checkout: Path) -> None:
    settings = ('train.max_iter=1', 'dataloader.train.total_batch_size=1')
    run(TRAIN, (*settings, f'train.output_dir={checkout}/trained'))
    assert (checkout / 'trained/model_final.pth').is_file()
    assert 'Task: bbox' in run(TEST, [f'train.output_dir={checkout}/tested'])


def test_other_backbones_stand_below_the_pyramid(checkout: Path) -> None:
    first, second = OTHER_BACKBONES.split('# or\n')
    for block, kept in ((first, 'RedNetBackbone'), (first + second, 'ICResNetBackbone')):
        cfg = execute(block)['cfg']
        model = instantiate(cfg.model)
        assert type(model.backbone.bottom_up).__name__ == kept
        cfg.optimizer.params.model = model
        rates = {group['lr'] for group in instantiate(cfg.optimizer).param_groups}
        assert rates == {cfg.optimizer.lr}


def test_a_yacs_config_builds_a_detector(checkout: Path) -> None:
    (checkout / 'checkpoints').mkdir()
    weights = fill(RevCol('tiny')).state_dict()
    torch.save({'model': weights}, checkout / 'checkpoints/revcol_tiny_1k.pth')
    cfg = execute(YACS)['cfg']
    cfg.MODEL.DEVICE = 'cpu'
    cfg.MODEL.META_ARCHITECTURE = 'SemanticSegmentor'
    found = build_model(cfg).backbone.bottom_up.state_dict()
    torch.testing.assert_close(dict(found), dict(weights), rtol=0, atol=0)


def test_an_image_is_read_and_its_objects_are_found(checkout: Path) -> None:
    instances = execute(INFER.replace(CONFIG, SMALL))['instances']
    assert instances.image_size == (64, 64)
    assert {'pred_boxes', 'pred_classes', 'scores', 'pred_masks'} == set(instances.get_fields())


def test_a_detector_moves_both_ways(checkout: Path) -> None:
    there, back = CONVERT.strip().splitlines()
    run(back)
    Path('mmdet.pth').rename('epoch_36.pth')
    run(there)
    moved = torch.load('detectron2.pth')['model']
    first = torch.load('output/model_final.pth', weights_only=False)['model']
    torch.testing.assert_close(dict(moved), dict(first), rtol=0, atol=0)
