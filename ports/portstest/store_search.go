package portstest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

func searchTests(b *storeBench) {
	// hits are the results of a search as text: a title, or the content of a message.
	page := func(b *storeBench, text string, after *ports.SearchCursor, limit int) (hits []chat.SearchHit, next *ports.SearchCursor) {
		b.Helper()
		hits, next, err := b.Search.Search(b.ctx(), b.user, text, after, limit)
		if err != nil {
			b.Fatalf("search %q: %v", text, err)
		}
		return hits, next
	}
	search := func(b *storeBench, text string) (list []string) {
		b.Helper()
		hits, next := page(b, text, nil, 50)
		if next != nil {
			b.Errorf("search %q: there is more", text)
		}
		for _, h := range hits {
			if h.MessageID == "" {
				list = append(list, "#"+h.Title)
			} else {
				list = append(list, h.Snippet)
			}
		}
		return list
	}
	send := func(b *storeBench, conversation, text string) chat.Message {
		b.Helper()
		out := b.admit(b.sending(conversation, text))
		b.finish(out.Run, chat.Stopped, "") // no reply
		return out.UserMessage
	}

	b.run("Languages", func(b *storeBench) {
		for _, text := range []string{
			"The quick brown fox", "Die Straße nach München-Süd", "STRASSENBAHN", "Monatsrechnung für Übermorgen", "人工智能的未来", "東京タワーに行きました",
			"ｶﾞﾗｽ と ガラス", "ฉันอยากกินข้าวผัด", "مُرَحَّبًا بالعالم", "학교에서 공부했다", "Ωραία Ελλάς", "Привет, мир", "Ｆｕｌｌｗｉｄｔｈ ＡＢＣ", "party 🎉👍🏽 time", "Cafe\u0301 noir",
			"use C++ and a.b(c) = 'x' OR \"y\" -- AND NOT *", "AI is main", "don't panic", "naïve façade", "İstanbul", "e-mail: ann@example.com", "snake_case_name", "v1.2.3-rc4", "नमस्ते दुनिया",
			"\u202eevil", "ﬁne ligature", "price 5€",
		} {
			send(b, "", text)
		}
		for query, want := range map[string][]string{
			"fox": {"The quick brown fox"}, "FOX quick": {"The quick brown fox"}, "row": {"The quick brown fox"}, "fo": nil, "foxes": nil,
			"strasse": {"STRASSENBAHN", "Die Straße nach München-Süd"}, "Münch": {"Die Straße nach München-Süd"}, "munchen": {"Die Straße nach München-Süd"}, "MÜNCHEN": {"Die Straße nach München-Süd"},
			"rechnung": {"Monatsrechnung für Übermorgen"}, "über": {"Monatsrechnung für Übermorgen"},
			"智能": {"人工智能的未来"}, "未来 人工": {"人工智能的未来"}, "来": {"人工智能的未来"}, "未人": nil,
			"タワー": {"東京タワーに行きました"}, "東京": {"東京タワーに行きました"}, "京": {"東京タワーに行きました"}, "ガラス": {"ｶﾞﾗｽ と ガラス"}, "ｶﾞﾗｽ": {"ｶﾞﾗｽ と ガラス"},
			"ข้าว": {"ฉันอยากกินข้าวผัด"}, "مرحبا": {"مُرَحَّبًا بالعالم"}, "عالم": {"مُرَحَّبًا بالعالم"}, "학교": {"학교에서 공부했다"}, "공부": {"학교에서 공부했다"},
			"ελλας": {"Ωραία Ελλάς"}, "ΩΡΑΙΑ": {"Ωραία Ελλάς"}, "МИР": {"Привет, мир"},
			"fullwidth abc": {"Ｆｕｌｌｗｉｄｔｈ ＡＢＣ"}, "ＦＯＸ": {"The quick brown fox"}, "🎉": {"party 🎉👍🏽 time"}, "👍": {"party 🎉👍🏽 time"}, "👍🏽": {"party 🎉👍🏽 time"}, "😀": nil,
			"café": {"Cafe\u0301 noir"}, "cafe": {"Cafe\u0301 noir"}, "ai": {"AI is main"}, "don't": {"don't panic"}, "naive facade": {"naïve façade"},
			"istanbul": {"İstanbul"}, "ann@example.com": {"e-mail: ann@example.com"}, "case": {"snake_case_name"}, "v1.2.3": {"v1.2.3-rc4"}, "नमस्ते": {"नमस्ते दुनिया"},
			"evil": {"\u202eevil"}, "fine": {"ﬁne ligature"}, "€": {"price 5€"},
			// What would be operators elsewhere are characters like others.
			`"y"`: {"use C++ and a.b(c) = 'x' OR \"y\" -- AND NOT *"}, "c++": {"use C++ and a.b(c) = 'x' OR \"y\" -- AND NOT *"},
			"x' OR '1'='1": nil, "fox AND": nil, "NOT fox": nil, "quick NEAR(brown": nil, "fo*": nil, "*": nil, "\"": nil, "()": nil, "%": nil, "_": nil, "-fox": {"The quick brown fox"}, "fox:*": {"The quick brown fox"}, "c:\\fox": nil,
		} {
			got := search(b, query)
			slices.Sort(got)
			slices.Sort(want)
			b.want(fmt.Sprintf("%q", query), got, want)
		}
	})

	b.run("WhatIsFound", func(b *storeBench) {
		title, temporary := "Plans for the Canary Islands", b.now.Add(time.Hour)
		c, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, Title: title, CreatedAt: b.tick()}, b.entry("a"))
		if err != nil {
			b.Fatal(err)
		}
		hidden, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, Title: "canary", CreatedAt: b.tick(), ExpiresAt: temporary}, b.entry("a"))
		if err != nil {
			b.Fatal(err)
		}
		send(b, hidden.ID, "a temporary canary")
		asked, run := b.say(c.ID, "where is the <b>canary</b>?")
		loose := send(b, "", "a canary without a conversation")
		other := newStoreBench(b.T, b.StoreBundle)
		send(other, "", "the canary of another user")
		hits, _ := page(b, "canary", nil, 50)
		reply, err := b.History.Message(b.ctx(), b.user, run.ID)
		if err != nil {
			b.Fatal(err)
		}
		for i := range hits {
			hits[i].SnippetMarks, hits[i].TitleMarks = nil, nil
		}
		b.want("hits", hits, []chat.SearchHit{
			{ConversationID: c.ID, Title: title, CreatedAt: c.CreatedAt},
			{MessageID: loose.ID, Role: chat.User, CreatedAt: loose.CreatedAt, Snippet: loose.Content},
			{ConversationID: c.ID, Title: title, MessageID: reply.ID, Role: chat.Assistant, CreatedAt: reply.CreatedAt, Snippet: reply.Content},
			{ConversationID: c.ID, Title: title, MessageID: asked.ID, Role: chat.User, CreatedAt: asked.CreatedAt, Snippet: asked.Content},
		})
	})

	b.run("FollowsEveryChange", func(b *storeBench) {
		id, none := b.conversation(), []string(nil)
		title := "untitled"
		if _, err := b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{Title: &title, Now: b.tick()}, b.entry("a")); err != nil {
			b.Fatal(err)
		}
		_, run := b.say(id, "apple")
		b.want("sent", search(b, "apple"), []string{"re: apple", "apple"})
		regenerated := b.admit(b.again(chat.Regeneration, run.ID))
		b.want("while a reply is made", search(b, "banana"), none)
		b.finish(regenerated.Run, chat.Completed, "banana")
		b.want("regenerated", search(b, "banana"), []string{"banana"})
		title = "cherry"
		if _, err := b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{Title: &title, Now: b.tick()}, b.entry("a")); err != nil {
			b.Fatal(err)
		}
		b.want("titled", search(b, "cherry"), []string{"#cherry"})
		title = "date"
		if _, err := b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{Title: &title, Now: b.tick()}, b.entry("a")); err != nil {
			b.Fatal(err)
		}
		b.want("retitled", [][]string{search(b, "cherry"), search(b, "date")}, [][]string{nil, {"#date"}})
		loose := send(b, "", "elderberry")
		if _, err := b.Expiry.ExpireThreads(b.ctx(), loose.CreatedAt.Add(time.Microsecond), 1000); err != nil {
			b.Fatal(err)
		}
		b.want("expired", search(b, "elderberry"), none)
		if err := b.History.DeleteConversation(b.ctx(), b.user, id, b.entry(audit.ActionConversationDeleted)); err != nil {
			b.Fatal(err)
		}
		for _, word := range []string{"apple", "banana", "date"} {
			b.want("deleted", search(b, word), none)
		}
	})

	b.run("Rank", func(b *storeBench) {
		for _, text := range []string{"the red house", "a house, red", "redhouse", "housered", "red", "red and a big old house", "house house house red"} {
			send(b, "", text)
		}
		got := search(b, "red house")
		b.want("in order first, parts of words last", []string{got[0], got[len(got)-1]}, []string{"the red house", "housered"})
		b.want("all", len(got), 6)
	})

	b.run("Snippet", func(b *storeBench) {
		long := strings.Repeat("日本語 lorem ipsum ", 100) + "the Nädel <i>here</i> and the needle there " + strings.Repeat("dolor sit ", 100)
		send(b, "", long)
		hits, _ := page(b, "nadel needle", nil, 5)
		if len(hits) != 1 || len([]rune(hits[0].Snippet)) > 210 || !strings.HasPrefix(hits[0].Snippet, "…") || !strings.HasSuffix(hits[0].Snippet, "…") {
			b.Fatalf("%+v", hits)
		}
		var marked []string
		for _, m := range hits[0].SnippetMarks {
			marked = append(marked, hits[0].Snippet[m.From:m.To])
		}
		b.want("marked", marked, []string{"Nädel", "needle"})
	})

	b.run("Pages", func(b *storeBench) {
		const most = 230 // more than are ranked together
		var want []string
		for i := range most {
			text := fmt.Sprintf("number %d of the list", i)
			if i%3 == 0 {
				text = fmt.Sprintf("numbers, numbered %d", i)
			}
			if i%50 == 0 {
				text = fmt.Sprintf("nothing %d", i)
			} else {
				want = append(want, text)
			}
			send(b, "", text)
		}
		title := "a number of things"
		for range 9 {
			if _, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, Title: title, CreatedAt: b.tick()}, b.entry("a")); err != nil {
				b.Fatal(err)
			}
		}
		for _, limit := range []int{7, 50} {
			var got []string
			titles := 0
			var after *ports.SearchCursor
			for n := 0; n == 0 || after != nil; n++ {
				var hits []chat.SearchHit
				hits, after = page(b, "number", after, limit)
				if len(hits) > limit || after != nil && len(hits) < limit {
					b.Errorf("page %d has %d hits", n, len(hits))
				}
				for _, h := range hits {
					if h.MessageID == "" {
						if titles++; len(got) > 0 {
							b.Error("a title comes behind a message")
						}
						continue
					}
					got = append(got, h.Snippet)
				}
				if n == 2 {
					send(b, "", fmt.Sprintf("written later: number %d", limit))
				}
				if n > 100 {
					b.Fatal("the pages do not end")
				}
			}
			b.want("titles", titles, 9)
			slices.Sort(got)
			slices.Sort(want)
			b.want("messages", got, want)
			want = append(want, fmt.Sprintf("written later: number %d", limit))
		}
	})
}
