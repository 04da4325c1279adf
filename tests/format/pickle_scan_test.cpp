#include "format/pickle_scan.h"

#include <doctest/doctest.h>

#include <initializer_list>
#include <random>
#include <string>

#include "base/file.h"
#include "base/text.h"
#include "format/checkpoint_scan.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using namespace std::string_literals;

std::string told(const std::string& pickle) { return to_sentence(scan_pickle(base::as_bytes(pickle))); }

std::string text(const std::string& value) {  // SHORT_BINUNICODE
  return "\x8c"s + static_cast<char>(value.size()) + value;
}

/// As Python 3.11 pickles an object whose __reduce__ gives (os.system, ('id',)).
const std::string kProtocol0 = "cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.";
const std::string kProtocol2 =
    "\x80\x02"
    "cposix\nsystem\nq\0X\x02\0\0\0idq\x01\x85q\x02Rq\x03."s;
const std::string kProtocol4 =
    "\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."s;

struct Case {
  const char* what;
  std::string pickle;
  std::string expected;
};

}  // namespace

TEST_CASE("what a hostile pickle would do is told in words, and where") {
  const std::string system = "cos\nsystem\n";
  for (const auto& [what, pickle, expected] : {
           Case{"protocol 0", kProtocol0, "would call posix.system at offset 29 with ('id')"},
           Case{"protocol 2", kProtocol2, "would call posix.system at offset 30 with ('id')"},
           Case{"protocol 4", kProtocol4, "would call posix.system at offset 37 with ('id')"},
           Case{"a command", "\x80\x02" + system + "U\x08rm -rf /\x85R.",
                "would call os.system at offset 24 with ('rm -rf /')"},
           Case{"an import alone", "ccolorama\ninit\n.", "would import colorama.init at offset 0"},
           Case{"two imports, one called", "cos\nsystem\ncposix\nfork\n)R.",
                "would import os.system at offset 0, and call posix.fork at offset 24 with ()"},
           Case{"a call whose result is dropped", system + "(Vx\ntR0}.",
                "would call os.system at offset 16 with ('x')"},
           Case{"eval through getattr", "cbuiltins\ngetattr\n(cbuiltins\n__dict__\nVeval\ntR(V1+1\ntR.",
                "would import builtins.__dict__ at offset 19, call builtins.getattr at offset 45 with "
                "(builtins.__dict__, 'eval'), and call what builtins.getattr gave at offset 53 with ('1+1')"},
           Case{"names by the memo, in the other order",
                text("system") + "\x94" + text("os") + "\x94" + "00h\1h\0\x93)R."s,
                "would call os.system at offset 22 with ()"},
           Case{"names by PUT and GET in words", "Vsystem\np77\n0Vos\np5\n0g5\ng77\n\x93)R.",
                "would call os.system at offset 30 with ()"},
           Case{"a memo index set twice",
                text("dict") +
                    "q\0"
                    "0"s +
                    text("system") +
                    "q\0"
                    "0"s +
                    text("os") + "h\0\x93)R."s,
                "would call os.system at offset 28 with ()"},
           Case{"names that are computed", "cbuiltins\nstr\n)R" + text("system") + "\x93)R.",
                "would call builtins.str at offset 15 with (), and call the global named by what "
                "builtins.str gave "
                "and 'system' at offset 26 with ()"},
           Case{"INST", "(Vid\nios\nsystem\n.", "would call os.system at offset 5 with ('id')"},
           Case{"OBJ", "(cos\nsystem\nVid\no.", "would call os.system at offset 16 with ('id')"},
           Case{"NEWOBJ", "csubprocess\nPopen\n(Vid\nt\x81.",
                "would make an object of subprocess.Popen at offset 24 with ('id')"},
           Case{"NEWOBJ_EX", "csubprocess\nPopen\n(Vid\nt}\x92.",
                "would make an object of subprocess.Popen at offset 25 with ('id') and a dict"},
           Case{"BUILD with __setstate__", "cm\nC\n)\x81}b.",
                "would make an object of m.C at offset 6 with (), and set the state of what m.C gave at "
                "offset 8 "
                "to a dict"},
           Case{"BUILD of a class that a state dict names", "ccollections\nOrderedDict\n}b.",
                "would set the state of OrderedDict at offset 26 to a dict"},
           Case{"items of what strange code made", "cm\nC\n)RVk\nVv\ns.",
                "would call m.C at offset 6 with (), and set items of what m.C gave at offset 13"},
           Case{"append", "cm\nC\n)RVk\na.",
                "would call m.C at offset 6 with (), and append to what m.C gave at offset 10"},
           Case{"ADDITEMS", "cm\nC\n)R(Vk\n\x90.",
                "would call m.C at offset 6 with (), and add to what m.C gave at offset 11"},
           Case{"extension codes", "\x82\x01\x83\x02\x01\x84\x03\0\0\x01)R."s,
                "would import what the extension code 1 stands for at offset 0, import what the extension "
                "code "
                "258 stands for at offset 2, and call extension 16777219 at offset 11 with ()"},
           Case{"protocol 5 buffers", "\x80\x05\x96\x02\0\0\0\0\0\0\0xy\x97\x98"s + system + "(tR.",
                "would call os.system at offset 28 with ()"},
           Case{"a payload before an unknown opcode", system + ")R\xff)R.",
                "would call os.system at offset 12 with (); the scan ends there: opcode 255 at offset 13 is "
                "of no "
                "pickle protocol"},
           Case{"a payload before the end", system + ")R",
                "would call os.system at offset 12 with (); the scan ends there: it is cut off at offset 13"},
           Case{"a payload behind an empty stack", "0000ttR\x85" + system + ")R.",
                "would call something at offset 6 with (()), and call os.system at offset 20 with ()"},
           Case{"a payload under a mark", "((((" + system + "(Vx\ntR.",
                "would call os.system at offset 20 with ('x')"},
           Case{"a storage as function", "ctorch\nFloatStorage\n)R.", "would execute nothing"},
           Case{"control characters", "cos\x1b[2J\nsys\x07tem\n)R.",
                "would call os\uFFFD[2J.sys\uFFFDtem at offset 17 with ()"},
           Case{"nothing", "", "would execute nothing; the scan ends there: it is cut off at offset 0"},
           Case{"numbers", "\x80\x02(K\1M\2\1J\xff\xff\xff\xffG\0\0\0\0\0\0\0\0N\x88\x89tl."s,
                "would execute nothing"},
       }) {
    CAPTURE(std::string(what));
    CHECK(told(pickle) == expected);
  }
}

TEST_CASE("a state dict executes nothing") {
  for (const auto kind : {tests::StateDict::ordered, tests::StateDict::plain, tests::StateDict::of_module,
                          tests::StateDict::parameters}) {
    const auto pickle = tests::make_pickle(
        {{"w", DType::bf16, "0", 6, 0, {2, 3}, {3, 1}}, {"b", DType::f32, "1", 3, 0, {3}, {1}}}, kind);
    const auto scan = scan_pickle(base::as_bytes(pickle));
    CHECK(scan.acts.empty());
    CHECK(scan.problem.empty());
    CHECK(scan.end_bytes == pickle.size());
  }
}

TEST_CASE("a pickle cut at any byte is scanned to the cut") {
  for (const std::string& pickle : {kProtocol0, kProtocol2, kProtocol4}) {
    for (std::size_t bytes = 0; bytes < pickle.size(); ++bytes) {
      const auto scan = scan_pickle(base::as_bytes(pickle).first(bytes));
      CHECK_FALSE(scan.problem.empty());
      CHECK(scan.end_bytes == bytes);
    }
  }
}

TEST_CASE("long texts are cut, many acts are counted, and bounds are told") {
  const std::string long_text = "cos\nsystem\n(V" + std::string(10000, 'x') + "\ntR.";
  CHECK(told(long_text).size() < 400);
  CHECK(told(long_text).find("...") != std::string::npos);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "cos\nsystem\n)R0";
  const auto scan = scan_pickle(base::as_bytes(many + "N."));
  CHECK(scan.acts.size() == 32);  // the first 64 without the imports that they call
  CHECK(to_sentence(scan).ends_with(" more"));
  CHECK(told(std::string(300000, 'N')).find("more than 262144 values wait on its stack") !=
        std::string::npos);
  CHECK(told(std::string((1u << 24) + 2, '0')).ends_with("the scan ends there: more than 16777216 opcodes"));
  CHECK(told("V" + std::string(1u << 21, 'x') + "\n0cos\nsystem\n)R.") ==
        "would call os.system at offset 2097167 with ()");
  CHECK(scan_pickle(base::as_bytes(std::string(300000, 'N'))).gave_up);
  CHECK_FALSE(scan_pickle(base::as_bytes("NN")).gave_up);  // Python would stop there, too
  std::string memo;
  for (int i = 0; i < 300000; ++i)
    memo +=
        "N\x94"
        "0"s;
  CHECK(told(memo).find("more than 262144 values stand in its memo") != std::string::npos);
}

struct Find {
  const char* what;
  std::string content;
};

TEST_CASE("pickles are found in a file wherever a loader may find them") {
  const tests::TempDir dir;
  const auto find = [&](const std::string& name, const std::string& content) {
    base::write_file(dir / name, base::as_bytes(content));
    return scan_pickles(dir / name, PickleSearch::whole_file);
  };
  const std::string evil = "cos\nsystem\n(Vid\ntR";
  const std::string told_evil = "it would call os.system at offset ";
  std::string seventeen;
  for (int i = 0; i < 16; ++i) seventeen += "\x80\x02N.";
  for (const auto& [what, content] :
       {Find{"one", "\x80\x02" + evil + "."}, Find{"the 17th", seventeen + "\x80\x02" + evil + "."},
        Find{"the second, without a protocol", "\x80\x02N." + evil + "."},
        Find{"without a protocol, and not to its end", evil + "\xff"}}) {
    CAPTURE(std::string(what));
    const auto pickles = find("x.pkl", content);
    CHECK(to_sentence(pickles).find(told_evil) != std::string::npos);
    CHECK(unscanned_sentence(pickles).empty());
  }
  std::string memo = "\x80\x02N";
  for (std::uint32_t i = 0; i <= 1u << 18; ++i) {
    memo += 'r';
    for (int shift = 0; shift < 32; shift += 8) memo += static_cast<char>(i >> shift);
  }
  const auto pickles = find("x.bin", memo + evil + ".");
  CHECK(to_sentence(pickles).empty());
  CHECK(unscanned_sentence(pickles) ==
        "it is not known what loading it with Python would execute, because the scan gave up at a limit: "
        "more than 262144 values stand in its memo");
  // Payload behind a pickle, a text, and a pickle that Python would not finish either.
  for (const std::string& harmless :
       {"\x80\x02N.cold\xff\ncomfort"s, "cold comfort\n"s, "\x80\x02N"s, "\x80\x02}."s}) {
    const auto found = find("x.bin", harmless);
    CHECK(to_sentence(found).empty());
    CHECK(unscanned_sentence(found).empty());
  }
}

/// A zip file of one member. The directory is only as good as lenient readers want it.
struct TestZip {
  std::string name = "a/data.pkl";
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::string prefix = {};
  std::string comment = {};
  std::string listed_name = {};  ///< when the directory has another name

  [[nodiscard]] std::string text(const std::string& payload) const {
    const auto le = [](std::uint64_t value, int bytes) {
      std::string out;
      for (int i = 0; i < bytes; ++i, value >>= 8) out += static_cast<char>(value);
      return out;
    };
    const std::string& listed = listed_name.empty() ? name : listed_name;
    const std::string middle =
        le(flags, 2) + le(method, 2) + le(0, 8) + le(payload.size(), 4) + le(payload.size(), 4);
    const std::string local = "PK\3\4" + le(20, 2) + middle + le(name.size(), 2) + le(0, 2) + name + payload;
    const std::string central =
        "PK\1\2" + le(20, 2) + le(20, 2) + middle + le(listed.size(), 2) + le(0, 12) + le(0, 4) + listed;
    return prefix + local + central + "PK\5\6" + le(0, 4) + le(1, 2) + le(1, 2) + le(central.size(), 4) +
           le(local.size(), 4) + le(comment.size(), 2) + comment;
  }
};

/// A raw deflate stream that stores `text`.
std::string deflated(const std::string& text) {
  const auto size = static_cast<std::uint16_t>(text.size());
  std::string out = "\x01";
  for (const std::uint16_t half : {size, static_cast<std::uint16_t>(~size)})
    out += {static_cast<char>(half), static_cast<char>(half >> 8)};
  return out + text;
}

TEST_CASE("pickles in zip files that only lenient readers open are scanned, or told as not scanned") {
  const tests::TempDir dir;
  const auto find = [&](const std::string& content) {
    base::write_file(dir / "x.pth", base::as_bytes(content));
    return scan_pickles(dir / "x.pth", PickleSearch::whole_file);
  };
  const std::string evil =
      "\x80\x02"
      "cos\nsystem\n(Vid\ntR.";
  for (const auto& [what, content] : std::initializer_list<Find>{
           {"as torch writes it", TestZip{}.text(evil)},
           {"a comment", TestZip{.comment = "x"}.text(evil)},
           {"bytes in front", TestZip{.prefix = "#!/bin/sh\n"}.text(evil)},
           {"a flag", TestZip{.flags = 0x40}.text(evil)},
           {"a data descriptor that is missing", TestZip{.flags = 8}.text(evil)},
           {"deflated", TestZip{.method = 8}.text(deflated(evil))},
           {"deflated, and its header says stored", TestZip{.comment = "x"}.text(deflated(evil))},
           {"stored, and its header says deflated", TestZip{.method = 8}.text(evil)},
           {"another name in the directory", TestZip{.name = "a/x", .listed_name = "a/data.pkl"}.text(evil)},
           {"cut before the directory", TestZip{}.text(evil).substr(0, 70)}}) {
    CAPTURE(std::string(what));
    CHECK(to_sentence(find(content)).find("would call os.system at offset ") != std::string::npos);
  }
  for (const auto& [told, content] : std::initializer_list<Find>{
           {"zip member 'a/data.pkl' is encrypted", TestZip{.flags = 1}.text("secret")},
           {"zip member 'a/data.pkl' is compressed by method 12", TestZip{.method = 12}.text("BZh9...")},
           {"zip member 'a/data.pkl' is not a pickle that can be read to its end within 67108864 bytes",
            TestZip{.method = 8}.text(deflated(evil).substr(0, 12))}}) {
    CAPTURE(std::string(told));
    const auto found = find(content);
    CHECK(to_sentence(found).empty());
    CHECK(unscanned_sentence(found) ==
          "it is not known what loading data.pkl with Python would execute, because the scan gave up at a "
          "limit: " +
              std::string(told));
  }
  for (const std::string& harmless :
       {TestZip{.method = 8}.text(deflated("\x80\x02}.")), TestZip{.comment = "x"}.text("\x80\x02}."),
        TestZip{.name = "notes.txt", .method = 8}.text(deflated("cold comfort"))}) {
    const auto found = find(harmless);
    CHECK(to_sentence(found).empty());
    CHECK(unscanned_sentence(found).empty());
  }
}

TEST_CASE("a memo bomb costs no more than its bytes") {
  std::string bomb = ")\x94";
  for (int i = 0; i < 100000; ++i) bomb += "222\x87\x94";
  const auto scan = scan_pickle(base::as_bytes(bomb + "."));
  CHECK(scan.acts.empty());
  CHECK(scan.problem.empty());
}

TEST_CASE("no bytes make the scan fail, and what it says fits a terminal") {
  std::mt19937 random(3);
  const std::string opcodes =
      "(.0125FIJKLMNPQRSTUVXabcd}eghijl]opqrst)uG\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b"
      "BC\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98";
  for (int round = 0; round < 3000; ++round) {
    std::string pickle;
    const std::size_t length = random() % 60;
    while (pickle.size() < length)
      pickle += random() % 3 == 0 ? static_cast<char>(random()) : opcodes[random() % opcodes.size()];
    const auto scan = scan_pickle(base::as_bytes(pickle));
    CHECK(scan.end_bytes <= pickle.size());
    const std::string sentence = to_sentence(scan);
    CHECK(base::to_printable(sentence) == sentence);
  }
}

}  // namespace sluice::format
