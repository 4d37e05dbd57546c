"""Pictures as cameras, scanners and design tools write them: uploaded, and looked at through the signed link."""
import io

import pillow_heif
import pytest
import requests
from PIL import Image, ImageCms

from conftest import data_url

pillow_heif.register_heif_opener()
pillow_heif.register_avif_opener()


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def shown(client, content, mime):
    """The asset, and what a browser gets of it."""
    asset = client.ok("POST", "/assets", json={"name": "picture", "image": data_url(content, mime)})["asset"]
    answer = requests.get(asset["url"] + "&format=png", timeout=30)
    assert answer.status_code == 200, answer.text
    return asset, Image.open(io.BytesIO(answer.content)).convert("RGB")


def near(pixel, wanted, tolerance=16):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, wanted))


def red_profile_swapped_with_blue():
    """sRGB with the columns of red and blue exchanged: who ignores the profile shows the wrong colour."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"----", b"bXYZ", 1)


@pytest.mark.parametrize("kind, mime", [("HEIF", "image/heic"), ("AVIF", "image/avif"), ("WEBP", "image/webp"), ("TIFF", "image/tiff"),
                                        ("GIF", "image/gif"), ("JPEG", "image/jpeg"), ("PNG", "image/png")])
def test_every_format_is_taken_and_shown(client, kind, mime):
    asset, picture = shown(client, encoded(Image.new("RGB", (60, 40), (200, 30, 30)), kind), "application/octet-stream")
    assert asset["mimeType"] == mime
    assert (asset["properties"]["width"], asset["properties"]["height"]) == (60, 40) == picture.size
    assert near(picture.getpixel((30, 20)), (200, 30, 30))


def test_cmyk_becomes_rgb(client):
    _, picture = shown(client, encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95), "image/jpeg")
    red, green, blue = picture.getpixel((16, 16))
    assert red > 180 and green < 90 and blue < 90


def test_sixteen_bits_become_eight(client):
    _, picture = shown(client, encoded(Image.new("I;16", (32, 32), 40000), "PNG"), "image/png")
    assert near(picture.getpixel((16, 16)), (156, 156, 156), 2)


def test_colour_profiles_are_applied(client):
    content = encoded(Image.new("RGB", (32, 32), (255, 0, 0)), "PNG", icc_profile=red_profile_swapped_with_blue())
    _, picture = shown(client, content, "image/png")
    assert near(picture.getpixel((16, 16)), (0, 0, 255))


def test_pictures_are_turned_upright(client):
    image = Image.new("RGB", (60, 40), "white")
    image.paste((255, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the top is on the right
    asset, picture = shown(client, encoded(image, "JPEG", quality=95, exif=exif), "image/jpeg")
    assert (asset["properties"]["width"], asset["properties"]["height"]) == (40, 60) == picture.size
    assert near(picture.getpixel((37, 2)), (255, 0, 0), 40)
