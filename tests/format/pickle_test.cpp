#include "format/pickle.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::make_pickle;
using tests::PthView;
using tests::StateDict;
using namespace std::string_literals;

std::vector<PickledTensor> read(const std::string& pickle) {
  return read_state_dict(base::as_bytes(pickle), "x.pth: data.pkl");
}

/// A pickle of protocol 2 with these opcodes.
std::string ops(const std::string& opcodes) { return "\x80\x02" + opcodes; }

std::string text(const std::string& value) {
  const auto length = static_cast<char>(value.size());
  return "X"s + length + "\0\0\0"s + value;
}

const std::string kDict = "}";
const std::string kOrderedDict = "ccollections\nOrderedDict\n)R";
const std::string kStorage =
    "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x06tQ";
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
/// A [2, 3] tensor at the start of its storage.
const std::string kTensor = kRebuild + "(" + kStorage + "K\0K\2K\3\x86K\3K\1\x86\x89"s + kOrderedDict + "tR";

std::vector<PthView> views() {
  std::vector<PthView> views;
  for (int i = 0; i < 100; ++i) {
    views.push_back({.name = "tensor." + std::to_string(i),
                     .dtype = static_cast<DType>(i % 10),
                     .storage_key = std::to_string(i),
                     .storage_elements = 1ull << (i % 40),
                     .offset_elements = static_cast<std::uint64_t>(i) * 1000,
                     .shape = Shape(static_cast<std::size_t>(i % 5), 70000u * (i % 3u)),
                     .strides = std::vector<std::uint64_t>(static_cast<std::size_t>(i % 5), 7)});
  }
  return views;
}

TEST_CASE("state dicts of every kind are read as they were pickled") {
  const auto expected = views();
  for (const auto kind :
       {StateDict::ordered, StateDict::plain, StateDict::of_module, StateDict::parameters}) {
    const auto tensors = read(make_pickle(expected, kind));
    REQUIRE(tensors.size() == expected.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      CAPTURE(i);
      CHECK(tensors[i].name == expected[i].name);
      CHECK(tensors[i].dtype == expected[i].dtype);
      CHECK(tensors[i].storage_key == expected[i].storage_key);
      CHECK(tensors[i].storage_elements == expected[i].storage_elements);
      CHECK(tensors[i].offset_elements == expected[i].offset_elements);
      CHECK(tensors[i].shape == expected[i].shape);
      CHECK(tensors[i].strides == expected[i].strides);
    }
  }
  CHECK(read(make_pickle({})).empty());
}

TEST_CASE("the hand-made pickle that the table below damages is sound") {
  const auto tensors = read(ops(kDict + text("w") + kTensor + "s."));
  REQUIRE(tensors.size() == 1);
  CHECK(tensors[0].shape == Shape{2, 3});
  CHECK(tensors[0].storage_elements == 6);
}

TEST_CASE("a pickle cut at any byte is refused") {
  const std::string pickle = make_pickle({views()[3], views()[9]}, StateDict::of_module);
  for (std::size_t bytes = 0; bytes < pickle.size(); ++bytes) {
    CAPTURE(bytes);
    CHECK_ERROR(read(pickle.substr(0, bytes)), ErrorKind::malformed, "x.pth: data.pkl: offset ");
  }
}

TEST_CASE("a pickle that does or names anything else than a state dict is refused with the place") {
  struct Case {
    const char* what;
    std::string pickle;
    std::string cause;
  };
  const std::string system = "cos\nsystem\n" + text("id") + "\x85R";
  for (const auto& [what, pickle, cause] : {
           Case{"a call", ops(system + "."),
                "x.pth: data.pkl: offset 2: global 'os system' does not occur in a plain state dict"},
           Case{"a call that is dropped again", ops(system + "0" + kDict + "."),
                "offset 2: global 'os system'"},
           Case{"a payload before a broken stream", ops("cposix\nsystem\n") + "\xff",
                "global 'posix system'"},
           Case{"eval", ops("cbuiltins\neval\n."), "global 'builtins eval'"},
           Case{"getattr", ops("c__builtin__\ngetattr\n."), "global '__builtin__ getattr'"},
           Case{"partial", ops("cfunctools\npartial\n."), "global 'functools partial'"},
           Case{"a numpy global", ops("cnumpy.core.multiarray\n_reconstruct\n."),
                "global 'numpy.core.multiarray _reconstruct'"},
           Case{"an unknown torch global", ops("ctorch\nload\n."), "global 'torch load'"},
           Case{"a name with dots", ops("ccollections\nOrderedDict.fromkeys\n."),
                "'collections OrderedDict.fromkeys'"},
           Case{"a name with control characters", ops("c\x1b[2J\nx\n."), "global '\uFFFD[2J x'"},
           Case{"a name without an end", ops("cos"), "a name without an end"},
           Case{"STACK_GLOBAL", ops(text("os") + text("system") + "\x93."), "opcode 147 does not occur"},
           Case{"INST", ops("(ios\nsystem\n."), "opcode 105 ('i') does not occur"},
           Case{"OBJ", ops("(cos\nsystem\no."), "global 'os system'"},
           Case{"NEWOBJ", ops("ccollections\nOrderedDict\n)\x81."), "opcode 129 does not occur"},
           Case{"EXT1", ops("\x82\x01."), "opcode 130 does not occur"},
           Case{"POP", ops("}0."), "opcode 48 ('0') does not occur"},
           Case{"DUP", ops("}2."), "opcode 50 ('2') does not occur"},
           Case{"FRAME", ops("\x95\x01\0\0\0\0\0\0\0."s), "opcode 149 does not occur"},
           Case{"PERSID", ops("Px\n."), "opcode 80 ('P') does not occur"},
           Case{"a list", ops("]."), "opcode 93 (']') does not occur"},
           Case{"protocol 4", "\x80\x04}.", "offset 0: pickle protocol 4, expected 2"},
           Case{"protocol 0", "(dp0\n.", "offset 0: not a pickle of protocol 2"},
           Case{"two PROTOs", ops("\x80\x02}."), "offset 2: a second PROTO"},
           Case{"nothing", "", "ends before it says STOP"},
           Case{"bytes behind STOP", ops("}.") + "x", "1 bytes follow STOP"},
           Case{"an empty stack at STOP", ops("."), "STOP with more or less than one value"},
           Case{"two values at STOP", ops("}}."), "STOP with more or less than one value"},
           Case{"an open mark at STOP", ops("(}."), "STOP with more or less than one value"},
           Case{"a value from below a mark", ops("K\1(\x85."), "the stack is empty"},
           Case{"a TUPLE without a mark", ops("K\1t."), "no mark on the stack"},
           Case{"a memo index that is not set", ops("h\1."), "memo index 1 is not set"},
           Case{"a hole in the memo", ops("}q\1."), "memo index 1, expected 0"},
           Case{"a memo index set twice", ops("}q\0q\0."s), "memo index 0, expected 1"},
           Case{"a huge string", ops("X\xff\xff\xff\xff"), "a string of 4294967295 bytes"},
           Case{"a string that is no UTF-8", ops(text("\xff") + "."), "a string that is no UTF-8"},
           Case{"a huge number", ops("\x8a\x09" + std::string(9, '\1') + "."), "a number of 9 bytes"},
           Case{"many marks", ops(std::string(65, '(')), "more than 64 open marks"},
           Case{"many values", ops(std::string((1u << 20) + 1, 'N')), "more than 1048576 values"},
           Case{"a number as result", ops("K\1."), "the pickle holds a number, expected a dict"},
           Case{"an entry that is no tensor", ops(kDict + text("epoch") + "K\7s."),
                "entry 'epoch' is a number, expected a tensor"},
           Case{"a nested state dict", ops(kDict + text("model") + kDict + text("w") + kTensor + "ss."),
                "entry 'model' is a dict, expected a tensor: only a plain state dict can be read"},
           Case{"items of a tensor", ops(kTensor + text("w") + "K\1s."), "items are set on a tensor"},
           Case{"an odd number of items", ops(kDict + "(" + text("w") + "u."), "a dict key without a value"},
           Case{"a key that is a number", ops(kDict + "K\1K\1s."),
                "a dict key is a number, expected a string"},
           Case{"a key twice", ops(kDict + "(" + text("w") + "K\1" + text("w") + "K\1u."),
                "key 'w' occurs twice"},
           Case{"a key twice in two goes", ops(kDict + text("w") + "K\1s" + text("w") + "K\1s."),
                "key 'w' occurs twice"},
           Case{"OrderedDict of something", ops("ccollections\nOrderedDict\nK\1\x85R."),
                "OrderedDict with arguments of another"},
           Case{"a call of a string", ops(text("w") + ")R."), "a call of a string with a tuple"},
           Case{"a call with no tuple", ops("ccollections\nOrderedDict\n}R."),
                "a call of a global with a dict"},
           Case{"a call of a storage type", ops("ctorch\nFloatStorage\n)R."),
                "a call of 'torch FloatStorage'"},
           Case{"BUILD of a plain dict", ops("}}" + text("_metadata") + "}sb."), "BUILD sets something else"},
           Case{"BUILD of __class__", ops(kOrderedDict + "}" + text("__class__") + "}sb."),
                "BUILD sets something else"},
           Case{"BUILD of a tensor", ops(kTensor + "}" + text("_metadata") + "}sb."),
                "BUILD sets something else"},
           Case{"a persistent id of four",
                ops("(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "tQ."),
                "a persistent id with arguments of another"},
           Case{"a persistent id 'module'",
                ops("(" + text("module") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\6tQ."),
                "a persistent id with arguments of another"},
           Case{"a storage of a negative size",
                ops("(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") +
                    "J\xff\xff\xff\xfftQ."),
                "a persistent id with arguments of another"},
           Case{"a storage key that is a path",
                ops("(" + text("storage") + "ctorch\nFloatStorage\n" + text("../0") + text("cpu") + "K\6tQ."),
                "storage key '../0' is not a plain name"},
           Case{"a storage that is called",
                ops("(" + text("storage") + "ccollections\nOrderedDict\n" + text("0") + text("cpu") +
                    "K\6tQ."),
                "a persistent id with arguments of another"},
           Case{"a tensor without a storage",
                ops(kRebuild + "(K\1K\0K\2\x85K\1\x85\x89"s + kOrderedDict + "tR."),
                "_rebuild_tensor_v2 with arguments of another"},
           Case{"a tensor with a negative offset",
                ops(kRebuild + "(" + kStorage + "J\xff\xff\xff\xffK\2\x85K\1\x85\x89" + kOrderedDict + "tR."),
                "_rebuild_tensor_v2 with arguments of another"},
           Case{
               "a tensor with a negative stride",
               ops(kRebuild + "(" + kStorage + "K\0K\2\x85J\xff\xff\xff\xff\x85\x89"s + kOrderedDict + "tR."),
               "_rebuild_tensor_v2 with arguments of another"},
           Case{"fewer strides than extents",
                ops(kRebuild + "(" + kStorage + "K\0K\2K\3\x86K\1\x85\x89"s + kOrderedDict + "tR."),
                "_rebuild_tensor_v2 with arguments of another"},
           Case{"too many axes",
                ops(kRebuild + "(" + kStorage + "K\0("s + std::string(34, 'N') + "t)\x89" + kOrderedDict +
                    "tR."),
                "_rebuild_tensor_v2 with arguments of another"},
           Case{"a tensor with hooks", ops(kRebuild + "(" + kStorage + "K\0)) \x89"s),
                "opcode 32 does not occur"},
           Case{"a tensor with a hook", ops(kRebuild + "(" + kStorage + "K\0))\x89}"s + text("h") + "NstR."),
                "_rebuild_tensor_v2 with arguments of another"},
           Case{"a parameter of a number",
                ops("ctorch._utils\n_rebuild_parameter\n(K\1\x89" + kOrderedDict + "tR."),
                "_rebuild_parameter with arguments of another"},
       }) {
    CAPTURE(what);
    CHECK_ERROR(read(pickle), ErrorKind::malformed, "x.pth: data.pkl: offset ");
    CHECK_ERROR(read(pickle), ErrorKind::malformed, cause);
  }
}

TEST_CASE("a memo bomb costs no more than its bytes") {
  // Each tuple holds the previous one three times: 3^1000 values for a reader that followed them all.
  std::string bomb = ")q\0"s;
  for (int i = 0; i < 250; ++i) {
    const std::string get = "h"s + static_cast<char>(i);
    bomb += get + get + get + "\x87q" + static_cast<char>(i + 1);
  }
  CHECK_ERROR(read(ops(bomb + ".")), ErrorKind::malformed, "STOP with more or less than one value");
}

TEST_CASE("a dict that holds itself is refused") {
  CHECK_ERROR(read(ops("}q\0"s + text("self") + "h\0s."s)), ErrorKind::malformed, "entry 'self' is a dict");
}

}  // namespace
}  // namespace sluice::format
