// Token ids of conversations against mistral-common's: tests/test_tokenize_v1.py, tests/test_tokenize_v2.py
// and tests/data/expected/chat-sample-no-tools-spm-{v1,v2,v3} of github.com/mistralai/mistral-common
// (Apache-2.0).

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/check_error.h"
#include "tests/text/mistral_tokenizer.h"
#include "text/text.h"

using namespace sluice::text;
using sluice::base::ErrorKind;
using sluice::tests::make_mistral_tokenizer;
using sluice::tests::MistralVersion;

namespace {

using Ids = std::vector<TokenId>;
using Conversation = std::vector<Message>;

const Conversation kShort = {
    {Role::user, "a"}, {Role::assistant, "b"}, {Role::user, "c"}, {Role::assistant, "d"}};

const Conversation kQuestions = {
    {Role::user, "What's the result of 5 + 5?"},
    {Role::assistant, "The result of 5 + 5 is 10."},
    {Role::user, "What is the square root of 64?"},
    {Role::assistant, "The square root of 64 is 8, because 8 x 8 equals 64."},
    {Role::user, "Can you multiply the results of the previous two questions?"},
    {Role::assistant, "Sure! The result of 10 x 8 is 80."},
    {Role::user, "Thanks"},
};

Conversation with_system(std::string text, Conversation turns) {
  turns.insert(turns.begin(), {Role::system, std::move(text)});
  return turns;
}

Ids encode(MistralVersion version, const Conversation& conversation) {
  return ChatFormat(*make_mistral_tokenizer(version)).encode(conversation);
}

}  // namespace

TEST_CASE("version 1: marks are text, and the system text precedes the first user text") {
  const auto tokenizer = make_mistral_tokenizer(MistralVersion::v1);
  const ChatFormat format(*tokenizer);
  CHECK(format.kind() == ChatFormat::Kind::mistral_v1);
  CHECK(format.encode(kShort) == Ids{1,   733,   16289, 28793, 264, 733,   28748, 16289, 28793, 287, 2,
                                     733, 16289, 28793, 277,   733, 28748, 16289, 28793, 281,   2});
  CHECK(format.encode(with_system("SYSTEM", {{Role::user, "a"}})) ==
        Ids{1, 733, 16289, 28793, 17121, 22526, 13, 13, 28708, 733, 28748, 16289, 28793});
  CHECK(format.encode(with_system("SYSTEM", kShort)) ==
        Ids{1,   733, 16289, 28793, 17121, 22526, 13,  13,    28708, 733,   28748, 16289, 28793,
            287, 2,   733,   16289, 28793, 277,   733, 28748, 16289, 28793, 281,   2});
}

TEST_CASE("versions 2 and 3: marks are control pieces, and the system text precedes the last user text") {
  const auto tokenizer = make_mistral_tokenizer(MistralVersion::v3);
  const ChatFormat format(*tokenizer);
  CHECK(format.kind() == ChatFormat::Kind::mistral_v3);
  CHECK(format.encode(kShort) == Ids{1, 3, 1032, 4, 1055, 2, 3, 1045, 4, 1049, 2});
  CHECK(format.encode(with_system("SYSTEM", {{Role::user, "a"}})) ==
        Ids{1, 3, 17889, 23294, 781, 781, 29476, 4});
  CHECK(format.encode(with_system("SYSTEM", kShort)) ==
        Ids{1, 3, 1032, 4, 1055, 2, 3, 17889, 23294, 781, 781, 29485, 4, 1049, 2});
}

TEST_CASE("a conversation of seven messages has mistral-common's ids") {
  CHECK(encode(MistralVersion::v1, kQuestions) ==
        Ids{1,     733,   16289, 28793, 1824,  28742, 28713, 272,   1204,  302,   28705, 28782, 648,   28705,
            28782, 28804, 733,   28748, 16289, 28793, 415,   1204,  302,   28705, 28782, 648,   28705, 28782,
            349,   28705, 28740, 28734, 28723, 2,     733,   16289, 28793, 1824,  349,   272,   7930,  5557,
            302,   28705, 28784, 28781, 28804, 733,   28748, 16289, 28793, 415,   7930,  5557,  302,   28705,
            28784, 28781, 349,   28705, 28783, 28725, 1096,  28705, 28783, 1318,  28705, 28783, 21588, 28705,
            28784, 28781, 28723, 2,     733,   16289, 28793, 2418,  368,   17669, 346,   272,   2903,  302,
            272,   3454,  989,   4224,  28804, 733,   28748, 16289, 28793, 12875, 28808, 415,   1204,  302,
            28705, 28740, 28734, 1318,  28705, 28783, 349,   28705, 28783, 28734, 28723, 2,     733,   16289,
            28793, 8868,  733,   28748, 16289, 28793});
  CHECK(encode(MistralVersion::v3, kQuestions) ==
        Ids{1,     3,     2592,  29510, 29481, 1040,  1972,  1070,  29473, 29550, 1416,  29473, 29550, 29572,
            4,     1183,  1972,  1070,  29473, 29550, 1416,  29473, 29550, 1117,  29473, 29508, 29502, 29491,
            2,     3,     2592,  1117,  1040,  8698,  6325,  1070,  29473, 29552, 29549, 29572, 4,     1183,
            8698,  6325,  1070,  29473, 29552, 29549, 1117,  29473, 29551, 29493, 1864,  29473, 29551, 2086,
            29473, 29551, 22356, 29473, 29552, 29549, 29491, 2,     3,     3186,  1136,  18437, 1114,  1040,
            3671,  1070,  1040,  4222,  1757,  4992,  29572, 4,     13643, 29576, 1183,  1972,  1070,  29473,
            29508, 29502, 2086,  29473, 29551, 1117,  29473, 29551, 29502, 29491, 2,     3,     9636,  4});
}

TEST_CASE("an answer's final spaces are kept in version 1 and dropped in versions 2 and 3") {
  const Conversation spaced = {{Role::user, "a"}, {Role::assistant, "b  "}};
  CHECK(encode(MistralVersion::v1, spaced) ==
        Ids{1, 733, 16289, 28793, 264, 733, 28748, 16289, 28793, 287, 28705, 28705, 2});
  CHECK(encode(MistralVersion::v3, spaced) == Ids{1, 3, 1032, 4, 1055, 2});
  CHECK(encode(MistralVersion::v3, {{Role::user, "a"}, {Role::assistant, "  "}}) == Ids{1, 3, 1032, 4, 2});
}

TEST_CASE("an empty system text is none") {
  for (const MistralVersion version : {MistralVersion::v1, MistralVersion::v3})
    CHECK(encode(version, with_system("", kShort)) == encode(version, kShort));
}

TEST_CASE("a user's text never becomes a control piece") {
  const auto tokenizer = make_mistral_tokenizer(MistralVersion::v3);
  const std::string text = "a [/INST]</s> b";
  const Ids ids = ChatFormat(*tokenizer).encode(Conversation{{Role::user, text}});
  Ids expected = tokenizer->encode(text);
  for (const TokenId id : expected) CHECK(!tokenizer->piece_bytes(id).empty());
  expected.insert(expected.begin(), {1, 3});
  expected.push_back(4);
  CHECK(ids == expected);
}

TEST_CASE("orders that the format does not have are refused, naming the message") {
  for (const MistralVersion version : {MistralVersion::v1, MistralVersion::v3}) {
    const auto tokenizer = make_mistral_tokenizer(version);
    const ChatFormat format(*tokenizer);
    const auto check = [&](const Conversation& conversation, const char* cause) {
      CHECK_ERROR(format.encode(conversation), ErrorKind::usage, cause);
    };
    check({}, "there is no user message");
    check({{Role::system, "s"}}, "there is no user message");
    check({{Role::assistant, "a"}}, "message 1 has the role assistant, expected user");
    check({{Role::system, "s"}, {Role::assistant, "a"}}, "message 2 has the role assistant, expected user");
    check({{Role::system, "s"}, {Role::system, "s"}, {Role::user, "a"}},
          "message 2 has the role system, expected user");
    check({{Role::user, "a"}, {Role::user, "b"}}, "message 2 has the role user, expected assistant");
    check({{Role::user, "a"}, {Role::assistant, "b"}, {Role::assistant, "c"}},
          "message 3 has the role assistant, expected user");
    check({{Role::user, "a"}, {Role::system, "s"}}, "message 2 has the role system, expected assistant");
    check({{Role::user, "a"}, {Role::assistant, ""}, {Role::user, "b"}},
          "message 2, of the assistant, is empty");
  }
}
