package main

import (
	"cmp"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
)

// compress writes a picture with at most 256 colours: flat surfaces and text
// need no more, and the file is a third of the size.
func compress(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	full, err := png.Decode(f)
	if err != nil {
		return err
	}
	small := image.NewPaletted(full.Bounds(), palette(full))
	known := map[color.RGBA]uint8{}
	for y := full.Bounds().Min.Y; y < full.Bounds().Max.Y; y++ {
		for x := full.Bounds().Min.X; x < full.Bounds().Max.X; x++ {
			c := coarse(full.At(x, y))
			i, ok := known[c]
			if !ok {
				i = uint8(small.Palette.Index(c))
				known[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	e := png.Encoder{CompressionLevel: png.BestCompression}
	if err := e.Encode(out, small); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// palette is the most frequent colours.
func palette(m image.Image) color.Palette {
	counts := map[color.RGBA]int{}
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			counts[coarse(m.At(x, y))]++
		}
	}
	all := make([]color.RGBA, 0, len(counts))
	for c := range counts {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int {
		return cmp.Or(counts[b]-counts[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	out := color.Palette{}
	for _, c := range all[:min(256, len(all))] {
		out = append(out, c)
	}
	return out
}

// coarse drops what the eye does not miss.
func coarse(c color.Color) color.RGBA {
	r, g, b, _ := c.RGBA()
	down := func(v uint32) uint8 { return uint8(v>>8) &^ 3 }
	return color.RGBA{down(r), down(g), down(b), 255}
}
