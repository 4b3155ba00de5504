"""The published translation networks, each written from its description with the nesting that gives its key names."""

import torch
from torch import nn
from torch.nn import functional as F


def shake(net, seed=0):
    """Random weights and statistics that make every layer count, and an output inside (-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        noise = torch.rand(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise)
        elif value.ndim == 4 and not name.endswith("filt"):
            value.copy_((noise - 0.5) * 3.5 / value[0].numel() ** 0.5)
        elif value.ndim == 1:
            norm = name.endswith((".weight", ".scale"))
            value.copy_(noise + 0.5 if norm else (noise - 0.5) * 0.4)
    return net


class _Add(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv_block(x)


class _Filter(nn.Module):
    """CUT's Downsample (with reflect padding) or Upsample (with replicate padding)."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        taps = torch.tensor([1.0, 3, 3, 1] if up else [1.0, 2, 1])
        square = taps[:, None] * taps[None, :]
        square = square / square.sum() * (4 if up else 1)
        self.register_buffer("filt", square[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x):
        if not self.up:
            return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])
        x = F.pad(x, (1, 1, 1, 1), "replicate")
        return F.conv_transpose2d(x, self.filt, stride=2, padding=2, groups=x.shape[1])[:, :, 1:, 1:][:, :, :-1, :-1]


class _Separable(nn.Module):
    def __init__(self, width_in, width):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width_in, width_in, 3, groups=width_in),
            nn.InstanceNorm2d(width_in),
            nn.Conv2d(width_in, width, 1),
        )

    def forward(self, x):
        return self.conv(x)


class ResNet(nn.Module):
    """junyanz's, with CUT's filters or GAN Compression's separable blocks if asked for."""

    def __init__(
        self, ngf=8, blocks=2, norm=nn.InstanceNorm2d, dropout=None, cut=(False, False), ins=3, outs=3, separable=False
    ):
        super().__init__()
        bias = norm is not nn.BatchNorm2d
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(ins, ngf, 7, bias=bias), norm(ngf), nn.ReLU()]
        for width in (ngf, 2 * ngf):
            stride = 1 if cut[0] else 2
            layers += [nn.Conv2d(width, 2 * width, 3, stride, 1, bias=bias), norm(2 * width), nn.ReLU()]
            layers += [_Filter(2 * width, up=False)] if cut[0] else []
        width = 4 * ngf
        for index in range(blocks):
            middle = [nn.Dropout(dropout)] if dropout is not None else []
            if separable:
                inner = width - 4 * (index + 1)
                convs = _Separable(width, inner), _Separable(inner, width)
                inner_norm = nn.InstanceNorm2d(inner)
            else:
                convs = nn.Conv2d(width, width, 3, bias=bias), nn.Conv2d(width, width, 3, bias=bias)
                inner_norm = norm(width)
            pad = nn.ReflectionPad2d(1)
            layers.append(_Add(pad, convs[0], inner_norm, nn.ReLU(), *middle, pad, convs[1], norm(width)))
        for width in (4 * ngf, 2 * ngf):
            if cut[1]:
                layers += [_Filter(width, up=True), nn.Conv2d(width, width // 2, 3, 1, 1, bias=bias)]
            else:
                layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, bias=bias)]
            layers += [norm(width // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, outs, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x.clamp(-1, 1))


class _Skip(nn.Module):
    def __init__(self, outer, inner, norm, ins=None, sub=None, outermost=False, dropout=False):
        super().__init__()
        self.outermost = outermost
        bias = norm is not nn.BatchNorm2d
        down = nn.Conv2d(outer if ins is None else ins, inner, 4, 2, 1, bias=bias)
        if outermost:
            layers = [down, sub, nn.ReLU(), nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1), nn.Tanh()]
        elif sub is None:
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(), up, norm(outer)]
        else:
            up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner), sub, nn.ReLU(), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    """junyanz's: three levels that double the width, any number of full width, the innermost."""

    def __init__(self, downs=5, ngf=4, norm=nn.BatchNorm2d, dropout=False, ins=3, outs=3):
        super().__init__()
        block = _Skip(8 * ngf, 8 * ngf, norm)
        for _ in range(downs - 5):
            block = _Skip(8 * ngf, 8 * ngf, norm, sub=block, dropout=dropout)
        for width in (4 * ngf, 2 * ngf, ngf):
            block = _Skip(width, 2 * width, norm, sub=block)
        self.model = _Skip(outs, ngf, norm, ins=ins, sub=block, outermost=True)

    def forward(self, x):
        return self.model(x)


def _unit(ins, outs, kernel=3, stride=1, padding=1, groups=1, bias=False):
    conv = nn.Conv2d(ins, outs, kernel, stride, groups=groups, bias=bias)
    return nn.Sequential(nn.ReflectionPad2d(padding), conv, nn.GroupNorm(1, outs), nn.LeakyReLU(0.2))


class _Inverted(nn.Module):
    def __init__(self, ins, outs):
        super().__init__()
        wide = 2 * ins
        depth = _unit(wide, wide, groups=wide, bias=True)
        last = nn.Conv2d(wide, outs, 1, bias=False)
        self.layers = nn.Sequential(_unit(ins, wide, 1, padding=0), depth, last, nn.GroupNorm(1, outs))
        self.same = ins == outs

    def forward(self, x):
        return x + self.layers(x) if self.same else self.layers(x)


class AnimeGAN(nn.Module):
    """bryandlee's, which interpolates to the sizes of the encoder."""

    def __init__(self, c=4):
        super().__init__()
        shrink = (0, 1, 0, 1)
        self.block_a = nn.Sequential(
            _unit(3, c, 7, padding=3), _unit(c, 2 * c, stride=2, padding=shrink), _unit(2 * c, 2 * c)
        )
        self.block_b = nn.Sequential(_unit(2 * c, 4 * c, stride=2, padding=shrink), _unit(4 * c, 4 * c))
        inverted = [_Inverted(4 * c, 8 * c), *(_Inverted(8 * c, 8 * c) for _ in range(3))]
        self.block_c = nn.Sequential(_unit(4 * c, 4 * c), *inverted, _unit(8 * c, 4 * c))
        self.block_d = nn.Sequential(_unit(4 * c, 4 * c), _unit(4 * c, 4 * c))
        self.block_e = nn.Sequential(_unit(4 * c, 2 * c), _unit(2 * c, 2 * c), _unit(2 * c, c, 7, padding=3))
        self.out_layer = nn.Sequential(nn.Conv2d(c, 3, 1, bias=False), nn.Tanh())

    def forward(self, x, align_corners=True):
        half = self.block_a(x)
        y = self.block_c(self.block_b(half))
        y = self.block_d(F.interpolate(y, half.shape[2:], mode="bilinear", align_corners=align_corners))
        return self.out_layer(self.block_e(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=align_corners)))


class _CartoonNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = x.mean((2, 3), keepdim=True)
        variance = x.var((2, 3), keepdim=True, correction=0)
        return (x - mean) / torch.sqrt(variance + 1e-9) * self.scale[:, None, None] + self.shift[:, None, None]


class CartoonGAN(nn.Module):
    """Yijunmaverick's: numbered layers; runs on BGR."""

    def __init__(self, c=4):
        super().__init__()
        self.conv01_1, self.in01_1 = nn.Conv2d(3, c, 7), _CartoonNorm(c)
        self.conv02_1, self.conv02_2 = nn.Conv2d(c, 2 * c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 1, 1)
        self.conv03_1, self.conv03_2 = nn.Conv2d(2 * c, 4 * c, 3, 2, 1), nn.Conv2d(4 * c, 4 * c, 3, 1, 1)
        self.in02_1, self.in03_1 = _CartoonNorm(2 * c), _CartoonNorm(4 * c)
        for block in range(4, 12):
            for half in (1, 2):
                setattr(self, f"conv{block:02d}_{half}", nn.Conv2d(4 * c, 4 * c, 3))
                setattr(self, f"in{block:02d}_{half}", _CartoonNorm(4 * c))
        self.deconv01_1, self.deconv01_2 = (
            nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1),
            nn.Conv2d(2 * c, 2 * c, 3, 1, 1),
        )
        self.deconv02_1, self.deconv02_2 = nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1), nn.Conv2d(c, c, 3, 1, 1)
        self.in12_1, self.in13_1 = _CartoonNorm(2 * c), _CartoonNorm(c)
        self.deconv03_1 = nn.Conv2d(c, 3, 7)

    def forward(self, x):
        def reflect(y, by):
            return F.pad(y, (by, by, by, by), "reflect")

        y = F.relu(self.in01_1(self.conv01_1(reflect(x[:, [2, 1, 0]], 3))))
        y = F.relu(self.in02_1(self.conv02_2(self.conv02_1(y))))
        y = F.relu(self.in03_1(self.conv03_2(self.conv03_1(y))))
        for block in range(4, 12):
            conv1, conv2 = (getattr(self, f"conv{block:02d}_{half}") for half in (1, 2))
            norm1, norm2 = (getattr(self, f"in{block:02d}_{half}") for half in (1, 2))
            y = y + norm2(conv2(reflect(F.relu(norm1(conv1(reflect(y, 1)))), 1)))
        y = F.relu(self.in12_1(self.deconv01_2(self.deconv01_1(y))))
        y = F.relu(self.in13_1(self.deconv02_2(self.deconv02_1(y))))
        return torch.tanh(self.deconv03_1(reflect(y, 3)))[:, [2, 1, 0]]
