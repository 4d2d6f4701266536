"""What the four data sets look like: trees as mmdet's and mmseg's configs expect them, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceSplit:
    """One split of a data set with one COCO-format annotation file a split.

    Args:
        annotations: The annotation file, relative to the root.
        images: The image folder, relative to the root.
        count: Images that the annotation file lists.
        absent: Images that it lists and nobody has, relative to the image folder.
    """

    annotations: str
    images: str
    count: int
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class InstanceLayout:
    """A data set of boxes or masks.

    Args:
        title: Its name in sentences.
        source: Where to get it, in words.
        splits: ``train`` and ``val``.
        categories: Gives the category names by id.
        file_name: Turns a name in the annotation file into one below the image folder.
    """

    title: str
    source: str
    splits: Mapping[str, InstanceSplit]
    categories: Callable[[], dict[int, str]]
    file_name: Callable[[str], str] = str


@dataclass(frozen=True)
class LabelMapSplit:
    """One split of a data set with one label map an image.

    Args:
        images: The image folder, relative to the root.
        label_maps: The folder of label maps, relative to the root.
        count: Images in the split.
    """

    images: str
    label_maps: str
    count: int


@dataclass(frozen=True)
class LabelMapLayout:
    """A data set of label maps.

    Args:
        title: Its name in sentences.
        source: Where to get it, in words.
        splits: ``train`` and ``val``.
        image_suffix: How the names of images end.
        label_suffix: How the names of label maps end instead.
        values: The values that a label map may hold.
        wrong_suffix: How label maps end that have to be converted first.
        conversion: How to do that, in words.
    """

    title: str
    source: str
    splits: Mapping[str, LabelMapSplit]
    image_suffix: str
    label_suffix: str
    values: frozenset[int]
    wrong_suffix: str | None = None
    conversion: str = ''


def _coco_categories() -> dict[int, str]:
    from mmdet.datasets import CocoDataset

    # The ids of the 91 categories of the paper that were annotated.
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = [number for number in range(1, 91) if number not in unused]
    return dict(zip(ids, CocoDataset.METAINFO['classes'], strict=True))


def _objects365_categories() -> dict[int, str]:
    from mmdet.datasets import Objects365V2Dataset

    return dict(enumerate(Objects365V2Dataset.METAINFO['classes'], start=1))


def _last_folder_and_name(file_name: str) -> str:
    """``images/v1/patch8/x.jpg`` is ``patch8/x.jpg`` on disk, as mmdet reads Objects365."""
    return '/'.join(file_name.split('/')[-2:])


LAYOUTS: dict[str, InstanceLayout | LabelMapLayout] = {
    'coco': InstanceLayout(
        title='COCO 2017',
        source='train2017.zip, val2017.zip and annotations_trainval2017.zip of '
        'https://cocodataset.org/#download',
        splits={
            'train': InstanceSplit('annotations/instances_train2017.json', 'train2017', 118287),
            'val': InstanceSplit('annotations/instances_val2017.json', 'val2017', 5000),
        },
        categories=_coco_categories,
    ),
    'objects365': InstanceLayout(
        title='Objects365 v2',
        source='the training and validation patches and their annotations of '
        'https://www.objects365.org/download.html',
        splits={
            'train': InstanceSplit(
                'annotations/zhiyuan_objv2_train.json',
                'train',
                1742292,
                absent=frozenset(
                    {
                        'patch16/objects365_v2_00908726.jpg',
                        'patch6/objects365_v1_00320532.jpg',
                        'patch6/objects365_v1_00320534.jpg',
                    }
                ),
            ),
            'val': InstanceSplit('annotations/zhiyuan_objv2_val.json', 'val', 80000),
        },
        categories=_objects365_categories,
        file_name=_last_folder_and_name,
    ),
    'ade20k': LabelMapLayout(
        title='ADE20K (scene parsing challenge 2016)',
        source='http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip',
        splits={
            'train': LabelMapSplit('images/training', 'annotations/training', 20210),
            'val': LabelMapSplit('images/validation', 'annotations/validation', 2000),
        },
        image_suffix='.jpg',
        label_suffix='.png',
        values=frozenset(range(151)),
    ),
    'cityscapes': LabelMapLayout(
        title='Cityscapes',
        source='leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of '
        'https://www.cityscapes-dataset.com/downloads (free registration)',
        splits={
            'train': LabelMapSplit('leftImg8bit/train', 'gtFine/train', 2975),
            'val': LabelMapSplit('leftImg8bit/val', 'gtFine/val', 500),
        },
        image_suffix='_leftImg8bit.png',
        label_suffix='_gtFine_labelTrainIds.png',
        values=frozenset({*range(19), 255}),
        wrong_suffix='_gtFine_labelIds.png',
        conversion='run `pip install cityscapesscripts` and '
        '`CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs`',
    ),
}
