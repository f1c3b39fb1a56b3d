package providers

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"parley/domain/chat"
)

// bundled are the list prices of the providers' own sites, on the date that
// the file names.
//
//go:embed prices.json
var bundled []byte

// Prices says what tokens cost. See prices.json for the format: for each
// "provider/model", or "provider/*" for all others of a provider, a list of
// tiers by the size of the prompt, in US dollars for a million tokens.
type Prices struct {
	Date   string            `json:"date"` // when it was true, as 2006-01-02
	Models map[string][]Tier `json:"models"`
}

// Tier is the price of prompts up to a size. CacheRead and CacheWrite cost as
// much as Input when they are absent.
type Tier struct {
	UpTo       int64    `json:"upTo,omitempty"` // input tokens; 0: any number
	Input      float64  `json:"input"`
	CacheRead  *float64 `json:"cacheRead,omitempty"`
	CacheWrite *float64 `json:"cacheWrite,omitempty"`
	Output     float64  `json:"output"`
}

// LoadPrices reads the bundled table, and over it the file of that name, if
// any: its models replace those of the same name, its date the table's.
func LoadPrices(file string) (Prices, error) {
	var p Prices
	if err := p.read(bundled); err != nil {
		return Prices{}, fmt.Errorf("read bundled prices: %w", err)
	}
	if file == "" {
		return p, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return Prices{}, fmt.Errorf("read prices: %w", err)
	}
	if err := p.read(data); err != nil {
		return Prices{}, fmt.Errorf("read prices: %s: %w", file, err)
	}
	return p, nil
}

// read adds a table to what is there.
func (p *Prices) read(data []byte) error {
	var next Prices
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&next); err != nil {
		return err
	}
	if _, err := time.Parse(time.DateOnly, next.Date); err != nil {
		return fmt.Errorf("date: %w", err)
	}
	if p.Models == nil {
		p.Models = map[string][]Tier{}
	}
	p.Date = next.Date
	for name, tiers := range next.Models {
		if err := check(tiers); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		p.Models[name] = tiers
	}
	return nil
}

// UnmarshalJSON refuses a tier without a price for input or for output: it would
// be free.
func (t *Tier) UnmarshalJSON(data []byte) error {
	var given struct {
		UpTo       int64    `json:"upTo"`
		Input      *float64 `json:"input"`
		CacheRead  *float64 `json:"cacheRead"`
		CacheWrite *float64 `json:"cacheWrite"`
		Output     *float64 `json:"output"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&given); err != nil {
		return err
	}
	if given.Input == nil || given.Output == nil {
		return errors.New("a price needs input and output; say 0 for what is free")
	}
	*t = Tier{UpTo: given.UpTo, Input: *given.Input, CacheRead: given.CacheRead, CacheWrite: given.CacheWrite, Output: *given.Output}
	return nil
}

func check(tiers []Tier) error {
	if len(tiers) == 0 {
		return errors.New("no price")
	}
	last := int64(0)
	for i, t := range tiers {
		if t.Input < 0 || t.Output < 0 || t.CacheRead != nil && *t.CacheRead < 0 || t.CacheWrite != nil && *t.CacheWrite < 0 {
			return fmt.Errorf("tier %d: negative price", i+1)
		}
		if t.UpTo != 0 && t.UpTo <= last || t.UpTo == 0 && i < len(tiers)-1 {
			return fmt.Errorf("tier %d: sizes must rise", i+1)
		}
		last = t.UpTo
	}
	return nil
}

// Cost is the price of a reply in millionths of a US dollar, rounded half up;
// nil when it is not known. names are the model's, the most exact first.
func (p Prices) Cost(provider string, u chat.Usage, names ...string) *int64 {
	for _, t := range p.tiers(provider, names) {
		if t.UpTo == 0 || u.Input <= t.UpTo {
			cost := t.cost(u)
			return &cost
		}
	}
	return nil
}

// costBeyond is the cost at the price of the largest prompts, whatever the size.
func (p Prices) costBeyond(provider string, u chat.Usage, names ...string) *int64 {
	tiers := p.tiers(provider, names)
	if len(tiers) == 0 {
		return nil
	}
	cost := tiers[len(tiers)-1].cost(u)
	return &cost
}

func (p Prices) tiers(provider string, names []string) []Tier {
	for _, name := range names {
		for _, n := range []string{name, undated(name)} {
			if tiers, ok := p.Models[provider+"/"+n]; ok {
				return tiers
			}
		}
	}
	return p.Models[provider+"/*"]
}

// cost counts in ten-thousandths of a millionth, which prices with up to four
// decimals are whole numbers of.
func (t Tier) cost(u chat.Usage) int64 {
	units := func(tokens int64, price float64) int64 { return max(tokens, 0) * int64(math.Round(price*10_000)) }
	read, write := t.Input, t.Input
	if t.CacheRead != nil {
		read = *t.CacheRead
	}
	if t.CacheWrite != nil {
		write = *t.CacheWrite
	}
	sum := units(u.Input-u.CacheRead-u.CacheWrite, t.Input) +
		units(u.CacheRead, read) + units(u.CacheWrite, write) + units(u.Output, t.Output)
	return (sum + 5_000) / 10_000
}

// undated is a model's name without the date at its end: gpt-4o-2024-08-06,
// claude-haiku-4-5-20251001.
func undated(name string) string {
	for _, layout := range []string{"-2006-01-02", "-20060102"} {
		if at := len(name) - len(layout); at > 0 {
			if _, err := time.Parse(layout, name[at:]); err == nil {
				return name[:at]
			}
		}
	}
	return name
}
