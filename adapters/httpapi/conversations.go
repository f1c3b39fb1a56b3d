package httpapi

import (
	"context"

	"parley/app/conversations"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

type listing struct {
	call
	page ports.Page
}

type conversationPage struct {
	asked ports.Page
	list  []chat.Conversation
	more  bool
}

func acceptList(c call, in pageQuery) (listing, error) {
	page, err := in.page(20)
	return listing{c, page}, err
}

func (a *API) list(ctx context.Context, in listing) (conversationPage, error) {
	list, more, err := a.Conversations.List(ctx, in.principal, in.page)
	return conversationPage{in.page, list, more}, err
}

type conversationsJSON struct {
	Conversations []conversationJSON `json:"conversations"`
	Pagination    paginationJSON     `json:"pagination"`
}

func conversationsOf(out conversationPage) conversationsJSON {
	list := make([]conversationJSON, len(out.list))
	for i, c := range out.list {
		list[i] = conversationOf(c)
	}
	p := paginationJSON{Limit: out.asked.Limit, Offset: out.asked.Offset, HasMore: out.more}
	if n := len(out.list); n > 0 {
		newest, oldest := out.list[0], out.list[n-1]
		p.After = formatPosition(ports.Position{At: newest.LastMessageAt, ID: newest.ID})
		p.Before = formatPosition(ports.Position{At: oldest.LastMessageAt, ID: oldest.ID})
	}
	return conversationsJSON{list, p}
}

const titleRefused = "Title must be a string with max 200 characters"

type createWire struct {
	ID        string `json:"id" names:"new conversation" refuse:"Invalid conversation ID"`
	Title     string `json:"title" is:"maxLength=200" refuse:"Title must be a string with max 200 characters"`
	System    string `json:"systemPrompt" is:"maxLength=32768"`
	Model     string `json:"model" is:"maxLength=200"`
	Temporary bool   `json:"temporary" refuse:"temporary must be true or false"`
}

func acceptCreate(c call, in createWire) (conversations.Create, error) {
	return conversations.Create{
		Principal: c.principal, Caller: c.caller, ID: in.ID, Title: in.Title, System: in.System, Model: in.Model,
		Temporary: in.Temporary,
	}, nil
}

type settingsWire struct {
	Title  *string `json:"title" is:"maxLength=200" refuse:"Title must be a string with max 200 characters"`
	System *string `json:"systemPrompt" is:"maxLength=32768"`
	Model  *string `json:"model" is:"maxLength=200"`
}

type updateWire struct {
	ID string `path:"id" names:"conversation"`
	settingsWire
}

type updateNamedWire struct {
	ID string `json:"conversationId" is:"required" names:"conversation" refuse:"Invalid conversation ID"`
	settingsWire
}

func acceptUpdate(c call, in updateWire) (conversations.Update, error) {
	return in.update(c, in.ID)
}

func acceptUpdateNamed(c call, in updateNamedWire) (conversations.Update, error) {
	if in.ID == "" {
		return conversations.Update{}, conversationRequired()
	}
	return in.update(c, in.ID)
}

func (in settingsWire) update(c call, id string) (conversations.Update, error) {
	if in.Title == nil && in.System == nil && in.Model == nil {
		return conversations.Update{}, fault.New(fault.Invalid, titleRefused)
	}
	return conversations.Update{
		Principal: c.principal, Caller: c.caller, ID: id, Title: in.Title, System: in.System, Model: in.Model,
	}, nil
}

type deleteNamedWire struct {
	ID string `query:"id" is:"required" names:"conversation"`
}

func acceptDeleteNamed(c call, in deleteNamedWire) (one, error) {
	if in.ID == "" {
		return one{}, conversationRequired()
	}
	return one{c, in.ID}, nil
}

func conversationRequired() error { return fault.New(fault.Invalid, "Conversation ID is required") }

func (a *API) remove(ctx context.Context, in one) (nothing, error) {
	return nothing{}, a.Conversations.Delete(ctx, in.principal, in.caller, in.id)
}

type removedJSON struct {
	Success bool `json:"success"`
}

func removedOf(nothing) removedJSON { return removedJSON{true} }
