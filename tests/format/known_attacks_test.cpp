// Known attacks by checkpoint files, one row each, with the whole message that refuses it. Every pickle is in
// an otherwise good torch file. Sources: tests and advisories of picklescan, fickling and modelscan, torch's
// CVEs, safetensors' attacks/ and the tests of its tensor.rs.

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/checkpoint_index.h"
#include "format/safetensors.h"
#include "tests/support/pth_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using tests::frame_safetensors;
using tests::make_zip;
using tests::PthWriter;
using tests::ZipPart;
using namespace std::string_literals;

/// Opens a file with these bytes as the checkpoint of a release: a refused file must not get a second chance
/// with a reader that trusts more.
void check_refused(const std::string& name, const std::string& bytes, const std::string& expected) {
  const tests::TempDir folder(tests::fast_directory());
  const std::filesystem::path path = folder / name;
  tests::write_plainly(path, bytes);
  std::string message = "nothing was refused";
  try {
    static_cast<void>(open_checkpoint(path));
  } catch (const base::Error& error) {
    CHECK(error.kind() == base::ErrorKind::malformed);
    message = error.what();
  }
  CHECK(message == path.string() + ": " + expected);
}

std::string text(const std::string& value) {
  return "X"s + static_cast<char>(value.size()) + "\0\0\0"s + value;
}

const std::string kOrderedDict = "ccollections\nOrderedDict\n)R";
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";

std::string storage(const std::string& key, const std::string& count) {
  return "(" + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cpu") + count + "tQ";
}

/// {"w": a tensor over storage '0' of six f32}, as _rebuild_tensor_v2 gets it: offset, shape, strides.
std::string tensor(const std::string& offset, const std::string& shape, const std::string& strides,
                   const std::string& count = "K\6") {
  return "}" + text("w") + kRebuild + "(" + storage("0", count) + offset + shape + strides + "\x89" +
         kOrderedDict + "tRs.";
}

PthWriter good() {
  PthWriter writer;
  writer.add("w", DType::f32, {2, 3}, std::string(24, '\1'));
  return writer;
}

/// A good torch file with this data.pkl.
std::string with_pickle(const std::string& opcodes) {
  auto parts = good().parts();
  parts[0].bytes = "\x80\x02" + opcodes;
  return make_zip(parts);
}

std::string with(const std::function<void(std::vector<ZipPart>&)>& change) {
  auto parts = good().parts();
  change(parts);
  return make_zip(parts);
}

struct Attack {
  std::string bytes;
  std::string message;
};

TEST_CASE("the file that the attacks below are made of is good") {
  const tests::TempDir folder;
  tests::write_plainly(folder / "x.pth", good().to_bytes());
  CHECK(open_checkpoint(folder / "x.pth").tensors.size() == 1);
  tests::write_plainly(folder / "x.pth", with_pickle(tensor("K\0"s, "K\2K\3\x86", "K\3K\1\x86")));
  CHECK(open_checkpoint(folder / "x.pth").tensors.size() == 1);
}

TEST_CASE("pickles that name or call what no state dict has") {
  const std::string id = text("id") + "\x85R";
  const Attack attacks[] = {
      // Names outside of the allow-list: picklescan's scanner.py, modelscan's settings.py, fickling's
      // test_bypasses.py.
      {with_pickle("cos\nsystem\n" + id + "."),
       "data.pkl: offset 2: global 'os system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call os.system at offset 21 with ('id'); nothing of it was executed"},
      {with_pickle("cposix\nsystem\n" + id + "."),
       "data.pkl: offset 2: global 'posix system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call posix.system at offset 24 with ('id'); nothing of it was executed"},
      {with_pickle("cnt\nsystem\n" + id + "."),
       "data.pkl: offset 2: global 'nt system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call nt.system at offset 21 with ('id'); nothing of it was executed"},
      {with_pickle("cbuiltins\neval\n" + id + "."),
       "data.pkl: offset 2: global 'builtins eval' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call builtins.eval at offset 25 with ('id'); nothing of it was executed"},
      {with_pickle("cbuiltins\nexec\n" + id + "."),
       "data.pkl: offset 2: global 'builtins exec' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call builtins.exec at offset 25 with ('id'); nothing of it was executed"},
      {with_pickle("cbuiltins\ngetattr\n."),
       "data.pkl: offset 2: global 'builtins getattr' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would import builtins.getattr at offset 2; nothing of it was executed"},
      {with_pickle("coperator\nattrgetter\n" + id + "."),
       "data.pkl: offset 2: global 'operator attrgetter' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would call operator.attrgetter at offset 31 with ('id'); nothing of it was "
       "executed"},
      {with_pickle("cfunctools\npartial\n."),
       "data.pkl: offset 2: global 'functools partial' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would import functools.partial at offset 2; nothing of it was executed"},
      {with_pickle("cpkgutil\nresolve_name\n" + text("os:system") + "\x85R."),
       "data.pkl: offset 2: global 'pkgutil resolve_name' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would call pkgutil.resolve_name at offset 39 with ('os:system'); nothing of it was "
       "executed"},
      {with_pickle("crunpy\n_run_code\n."),
       "data.pkl: offset 2: global 'runpy _run_code' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would import runpy._run_code at offset 2; nothing of it was executed"},
      {with_pickle("cpip\nmain\n."),
       "data.pkl: offset 2: global 'pip main' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would import pip.main at offset 2; nothing of it was executed"},
      {with_pickle("ctypes\nCodeType\n."),
       "data.pkl: offset 2: global 'types CodeType' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would import types.CodeType at offset 2; nothing of it was executed"},
      {with_pickle("ctorch.hub\nload\n."),
       "data.pkl: offset 2: global 'torch.hub load' does not occur in a plain state dict; loaded with "
       "Python, data.pkl would import torch.hub.load at offset 2; nothing of it was executed"},
      // The same with the other opcodes that name or make something.
      {with_pickle(text("os") + text("system") + "\x93."),
       "data.pkl: offset 20: opcode 147 does not occur in a plain state dict; loaded with Python, data.pkl "
       "would import os.system at offset 20; nothing of it was executed"},
      {with_pickle("(" + text("id") + "ios\nsystem\n."),
       "data.pkl: offset 10: opcode 105 ('i') does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call os.system at offset 10 with ('id'); nothing of it was executed"},
      {with_pickle("(cos\nsystem\n" + text("id") + "o."),
       "data.pkl: offset 3: global 'os system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call os.system at offset 21 with ('id'); nothing of it was executed"},
      {with_pickle("\x82\x01."),
       "data.pkl: offset 2: opcode 130 does not occur in a plain state dict; loaded with Python, data.pkl "
       "would import what the extension code 1 stands for at offset 2; nothing of it was executed"},
      {with_pickle("\x83\x01\x01."),
       "data.pkl: offset 2: opcode 131 does not occur in a plain state dict; loaded with Python, data.pkl "
       "would import what the extension code 257 stands for at offset 2; nothing of it was executed"},
      {with_pickle("\x84\x01\x01\x01\x01."),
       "data.pkl: offset 2: opcode 132 does not occur in a plain state dict; loaded with Python, data.pkl "
       "would import what the extension code 16843009 stands for at offset 2; nothing of it was executed"},
      // fickling GHSA-5j3x-jp52-966f, modelscan issue 338: names with dots.
      {with_pickle(text("builtins") + text("x.__class__.__base__") + "\x93."),
       "data.pkl: offset 40: opcode 147 does not occur in a plain state dict; loaded with Python, data.pkl "
       "would import builtins.x.__class__.__base__ at offset 40; nothing of it was executed"},
      {with_pickle("ccollections\nOrderedDict.__class__.__base__\n."),
       "data.pkl: offset 2: global 'collections OrderedDict.__class__.__base__' does not occur in a plain "
       "state dict; loaded with Python, data.pkl would import collections.OrderedDict.__class__.__base__ at "
       "offset 2; nothing of it was executed"},
      // fickling GHSA-mxhj-88fx-4pcv: the result of a call is dropped; a class sets its state itself; a value
      // from the memo is called.
      {with_pickle("cos\nsystem\n" + id + "0}."),
       "data.pkl: offset 2: global 'os system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call os.system at offset 21 with ('id'); nothing of it was executed"},
      {with_pickle(kOrderedDict + "}" + text("__setstate__") + "cos\nsystem\nsb."),
       "data.pkl: offset 47: global 'os system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would import os.system at offset 47; nothing of it was executed"},
      {with_pickle(kOrderedDict + "}" + text("__setstate__") + "}sb."),
       "data.pkl: offset 49: BUILD sets something else than the _metadata of an OrderedDict"},
      {with_pickle(text("os.system") + "q\0h\0)R."s),
       "data.pkl: offset 21: a call of a string with a tuple; loaded with Python, data.pkl would call "
       "'os.system' at offset 21 with (); nothing of it was executed"},
      // nullifAI (safeguard.sh): the payload comes first, and then the stream breaks.
      {with_pickle("cos\nsystem\n" + id + "\xff\xff\xff"),
       "data.pkl: offset 2: global 'os system' does not occur in a plain state dict; loaded with Python, "
       "data.pkl would call os.system at offset 21 with ('id'); the scan ends there: opcode 255 at offset 22 "
       "is of no pickle protocol; nothing of it was executed"},
      {"7z\xbc\xaf\x27\x1c\0\4"s + std::string(64, '\0'), "is a 7z archive, not a checkpoint"},
      // fickling, test_frame_boundary_divergence: a frame that ends within an opcode.
      {with_pickle("\x95\x02\0\0\0\0\0\0\0"s + text("w") + "."),
       "data.pkl: offset 2: opcode 149 does not occur in a plain state dict"},
      // CVE-2025-32434, and torch 2.14's note on sparse tensors: globals that torch's own list allows.
      {with_pickle("ctorch._utils\n_rebuild_sparse_tensor\n."),
       "data.pkl: offset 2: global 'torch._utils _rebuild_sparse_tensor' does not occur in a plain state "
       "dict; loaded with Python, data.pkl would import torch._utils._rebuild_sparse_tensor at offset 2; "
       "nothing of it was executed"},
      {with_pickle("ctorch.storage\n_load_from_bytes\n" + id + "."),
       "data.pkl: offset 2: global 'torch.storage _load_from_bytes' does not occur in a plain state dict; "
       "loaded with Python, data.pkl would call torch.storage._load_from_bytes at offset 42 with ('id'); "
       "nothing of it was executed"},
  };
  for (const Attack& attack : attacks) check_refused("x.pth", attack.bytes, attack.message);
}

TEST_CASE("pickles that are made to cost, to differ between readers, or to be read twice") {
  std::string bomb = ")q\0"s;  // each tuple holds the one before it three times
  for (int i = 0; i < 250; ++i) {
    const std::string get = "h"s + static_cast<char>(i);
    bomb += get + get + get + "\x87q" + static_cast<char>(i + 1);
  }
  const Attack attacks[] = {
      // fickling, analysis.py
      {with_pickle(bomb + "."), "data.pkl: offset 2255: STOP with more or less than one value on the stack"},
      {with_pickle("X\xff\xff\xff\xff" + text("w")),
       "data.pkl: offset 2: a string of 4294967295 bytes, more than 4096"},
      {with_pickle("\x8d\xff\xff\xff\xff\xff\xff\xff\x7f."),
       "data.pkl: offset 2: opcode 141 does not occur in a plain state dict"},
      {with_pickle("\x8a\xff" + std::string(255, '\1') + "."), "data.pkl: offset 2: a number of 255 bytes"},
      {with_pickle("\x8b\xff\xff\xff\x7f."),
       "data.pkl: offset 2: opcode 139 does not occur in a plain state dict"},
      {with_pickle(std::string(100'000, '(') + "."), "data.pkl: offset 66: more than 64 open marks"},
      {with_pickle("\x80\x02}."), "data.pkl: offset 2: a second PROTO"},
      {with_pickle("}q\5."), "data.pkl: offset 3: memo index 5, expected 0"},
      {with_pickle("}r\xff\xff\xff\x7f."), "data.pkl: offset 3: memo index 2147483647, expected 0"},
      {with_pickle("}."s + "cos\nsystem\n"), "data.pkl: offset 3: 11 bytes follow STOP"},
      {with_pickle("}(" + text("w") + "K\1" + text("w") + "K\1u."),
       "data.pkl: offset 20: key 'w' occurs twice in one dict"},
  };
  for (const Attack& attack : attacks) check_refused("x.pth", attack.bytes, attack.message);
}

TEST_CASE("tensors that are no views of their storage") {
  const std::string shape = "K\2K\3\x86";
  const std::string strides = "K\3K\1\x86";
  const std::string huge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  const std::string minus = "J\xff\xff\xff\xff";
  const Attack attacks[] = {
      // CVE-2026-24747 (GHSA-63cw-57p8-fm3p): items set on a value that is no dict, metadata that do not fit.
      {with_pickle(kRebuild + "(" + storage("0", "K\6") + "K\0"s + shape + strides + "\x89" + kOrderedDict +
                   "tR" + text("w") + "K\1s."),
       "data.pkl: offset 137: items are set on a tensor"},
      {with_pickle(tensor("K\0"s, shape, strides, "K\7")),
       "tensor 'w': its storage 'data/0' has 24 bytes, expected 7 x f32"},
      {with_pickle(tensor("K\0"s, shape, strides, "K\5")),
       "tensor 'w': its storage 'data/0' has 24 bytes, expected 5 x f32"},
      {with_pickle(tensor("K\0"s, shape, strides, huge)),
       "tensor 'w': its storage 'data/0' has 24 bytes, expected 9223372036854775807 x f32"},
      {with_pickle(tensor("K\0"s, shape, strides, minus)),
       "data.pkl: offset 96: a persistent id with arguments of another number, kind or sign than torch "
       "writes"},
      {with_pickle(tensor("K\1", shape, strides)),
       "tensor 'w': shape [2, 3] with strides [3, 1] at element 1 overruns its storage of 6 elements"},
      {with_pickle(tensor(minus, shape, strides)),
       "data.pkl: offset 138: _rebuild_tensor_v2 with arguments of another number, kind or sign than torch "
       "writes"},
      {with_pickle(tensor(huge, shape, strides)),
       "tensor 'w': shape [2, 3] with strides [3, 1] at element 9223372036854775807 overruns its storage of "
       "6 elements"},
      {with_pickle(tensor("K\0"s, "K\2K\4\x86", "K\4K\1\x86")),
       "tensor 'w': shape [2, 4] with strides [4, 1] at element 0 overruns its storage of 6 elements"},
      {with_pickle(tensor("K\0"s, huge + "K\3\x86", strides)),
       "tensor 'w': shape [9223372036854775807, 3] with strides [3, 1] is too large or overlaps itself"},
      {with_pickle(tensor("K\0"s, minus + "K\3\x86", strides)),
       "data.pkl: offset 138: _rebuild_tensor_v2 with arguments of another number, kind or sign than torch "
       "writes"},
      {with_pickle(tensor("K\0"s, shape, "K\0K\1\x86"s)),
       "tensor 'w': shape [2, 3] with strides [0, 1] is too large or overlaps itself"},
      {with_pickle(tensor("K\0"s, shape, "K\1K\1\x86")),
       "tensor 'w': shape [2, 3] with strides [1, 1] is too large or overlaps itself"},
      {with_pickle(tensor("K\0"s, shape, minus + "K\1\x86")),
       "data.pkl: offset 138: _rebuild_tensor_v2 with arguments of another number, kind or sign than torch "
       "writes"},
      {with_pickle(tensor("K\0"s, shape, huge + "K\1\x86")),
       "tensor 'w': shape [2, 3] with strides [9223372036854775807, 1] at element 0 overruns its storage of "
       "6 elements"},
      {with([](auto& parts) { parts[1].bytes.resize(20); }),
       "tensor 'w': its storage 'data/0' has 20 bytes, expected 6 x f32"},
      {with([](auto& parts) { parts[1].bytes.resize(28); }),
       "tensor 'w': its storage 'data/0' has 28 bytes, expected 6 x f32"},
      // Keys that are paths.
      {with_pickle("}" + text("w") + kRebuild + "(" + storage("../version", "K\6") + "K\0"s + shape +
                   strides + "\x89" + kOrderedDict + "tRs."),
       "data.pkl: offset 102: storage key '../version' is not a plain name"},
      {with_pickle("}" + text("w") + kRebuild + "(" + storage("/etc/passwd", "K\6") + "K\0"s + shape +
                   strides + "\x89" + kOrderedDict + "tRs."),
       "data.pkl: offset 103: storage key '/etc/passwd' is not a plain name"},
      {with_pickle("}" + text("w") + kRebuild + "(" + storage("1", "K\6") + "K\0"s + shape + strides +
                   "\x89" + kOrderedDict + "tRs."),
       "tensor 'w': its storage 'data/1' is missing"},
  };
  for (const Attack& attack : attacks) check_refused("x.pth", attack.bytes, attack.message);
}

TEST_CASE("zip files that two readers read differently, that hide something, or that swell") {
  const Attack attacks[] = {
      // CVE-2025-1944: another name in the member's own header.
      {with([](auto& parts) { parts[0].local_name = "archive/data.pk1"; }),
       "zip member 'archive/data.pkl': has another name in its own header"},
      // CVE-2025-1945: flag bits that make readers stop.
      {with([](auto& parts) { parts[0].flags |= 0x1; }), "zip member 'archive/data.pkl': is encrypted"},
      {with([](auto& parts) { parts[0].flags |= 0x20; }), "zip member 'archive/data.pkl': is patch data"},
      {with([](auto& parts) { parts[0].flags |= 0x40; }), "zip member 'archive/data.pkl': is encrypted"},
      // CVE-2025-10156: a wrong CRC, which torch accepts.
      {with([](auto& parts) { parts[0].crc32 = 0x12345678; }),
       "zip member 'archive/data.pkl': is damaged: its CRC-32 does not match"},
      // modelscan issue 263, modelaudit PRs 1043 and 1098: pickles in other members.
      {with([](auto& parts) { parts.push_back({.name = "archive/hidden.pkl", .bytes = "\x80\x02}."}); }),
       "zip member 'archive/hidden.pkl' does not occur in a plain torch file"},
      {with([](auto& parts) { parts.push_back({.name = "other/data.pkl", .bytes = "\x80\x02}."}); }),
       "zip member 'other/data.pkl' is outside the folder 'archive/'"},
      {with([](auto& parts) { parts.push_back({.name = "archive/constants.pkl", .bytes = "\x80\x02}."}); }),
       "is a TorchScript program, not a state dict"},
      {with([](auto& parts) { parts.push_back(parts[0]); }), "zip member 'archive/data.pkl': occurs twice"},
      {with([](auto& parts) { parts.push_back({.name = "archive/../../evil", .bytes = "x"}); }),
       "zip member 'archive/../../evil' does not occur in a plain torch file"},
      {with([](auto& parts) { parts.push_back({.name = "/etc/cron.d/evil", .bytes = "x"}); }),
       "zip member '/etc/cron.d/evil' is outside the folder 'archive/'"},
      // safetensors, attacks/torch_dos_create.py: 40 GB of zeros, deflated.
      {with([](auto& parts) {
         parts[1].method = 8;
         parts[1].length_bytes = 40'000'000'000;
         parts[1].zip64 = true;
       }),
       "zip member 'archive/data/0': is compressed (method 8), torch only stores"},
  };
  for (const Attack& attack : attacks) check_refused("x.pth", attack.bytes, attack.message);
}

TEST_CASE("files under the name of another kind") {
  const std::string evil =
      "\x80\x02"
      "cos\nsystem\n" +
      text("id") + "\x85R.";
  // CVE-2025-1889, CVE-2025-10155: an extension that a scanner ignores.
  check_refused("x.safetensors", evil, "is a bare pickle, not a torch zip file");
  check_refused("x.safetensors", with_pickle("cos\nsystem\n" + text("id") + "\x85R."),
                "data.pkl: offset 2: global 'os system' does not occur in a plain state dict; loaded with "
                "Python, data.pkl would call os.system at offset 21 with ('id'); nothing of it was executed");
  check_refused("x.pth", evil,
                "is a bare pickle, not a torch zip file; loaded with Python, it would call os.system at "
                "offset 21 with ('id'); nothing of it was executed");
  check_refused("x.pt", evil,
                "is a bare pickle, not a torch zip file; loaded with Python, it would call os.system at "
                "offset 21 with ('id'); nothing of it was executed");
  check_refused("x.gguf", evil, "is no GGUF file: it does not begin with 'GGUF'");
  // torch's formats from before 1.6, which its weights_only loader refuses, too.
  std::string tar(1024, '\0');
  tar.replace(0, 8, "storages");
  tar.replace(257, 5, "ustar");
  check_refused("x.pth", tar,
                "is a tar archive: unpack it first (torch's own tar format, before 0.2, is not supported)");
  check_refused("x.pth", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
                "is in torch's format from before version 1.6, which is not supported: load and save it with "
                "a newer torch");
}

TEST_CASE("safetensors files that its own reader refuses") {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"x":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"x":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"y":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  std::string ten = "{";  // attempts 2 and 3: ten names for one range
  for (int i = 0; i < 10; ++i)
    ten +=
        (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  ten += "}";
  const Attack attacks[] = {
      // HeaderTooSmall, HeaderTooLarge, InvalidHeaderLength, InvalidHeader
      {"\0\0\0\0"s, "is no safetensors file: it has 4 bytes, the length of the header alone takes 8"},
      {"<\0\0\0\0\xff\xff\xff"s,
       "says that its header has 18446742974197923900 bytes, at most 100000000 are allowed"},
      {"\x02\xe1\xf5\x05\0\0\0\0"s,
       "says that its header has 100000002 bytes, at most 100000000 are allowed"},
      {"<\0\0\0\0\0\0\0{}"s, "says that its header has 60 bytes, but there are only 2"},
      {frame_safetensors("\1\2\3\4\xff"), "its header is not UTF-8"},
      // InvalidHeaderDeserialization
      {frame_safetensors("{\"x\":"),
       "its header is not valid JSON: offset 6: syntax error while parsing value - unexpected end of input; "
       "expected '[', '{', or a literal"},
      {frame_safetensors(R"({"x":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", "x"),
       "tensor 'x': key 'dtype': expected a string, found 8"},
      {frame_safetensors(one("F33", "[1]", "[0,1]"), "x"), "tensor 'x': has the unknown dtype 'F33'"},
      {frame_safetensors(one("U8", "[-1]", "[0,1]"), "x"),
       "tensor 'x': key 'shape': expected an array of whole numbers, found -1"},
      // InvalidOffset
      {frame_safetensors(two("[0,4]", "[5,9]"), "123456789"),
       "tensor 'y': begins at byte 5 of the data, expected 4: there is a gap"},
      {frame_safetensors(two("[0,4]", "[3,7]"), "1234567"),
       "tensor 'y': begins at byte 3 of the data, expected 4: it overlaps another"},
      {frame_safetensors(one("U8", "[4]", "[4,0]"), "1234"), "tensor 'x': ends at 0 before it begins at 4"},
      {frame_safetensors(one("U8", "[4]", "[-4,0]"), "1234"),
       "tensor 'x': key 'data_offsets': expected an array of whole numbers, found -4"},
      {frame_safetensors(ten, "1234"),
       "tensor '1': begins at byte 0 of the data, expected 4: it overlaps another"},
      // TensorInvalidInfo, ValidationOverflow, MisalignedSlice
      {frame_safetensors(one("F32", "[2]", "[0,4]"), "1234"),
       "tensor 'x': has 4 bytes, its shape [2] of f32 asks for 8"},
      {frame_safetensors(one("F32", "[2,18446744073709551614]", "[0,16]"), std::string(16, '1')),
       "tensor 'x': shape [2, 18446744073709551614] is too large"},
      {frame_safetensors(one("F32", "[2,9223372036854775807]", "[0,16]"), std::string(16, '1')),
       "tensor 'x': shape [2, 9223372036854775807] is too large"},
      {frame_safetensors(one("F4", "[3]", "[0,2]"), "12"),
       "tensor 'x': has dtype F4, which is not supported"},
      {frame_safetensors(one("F6_E2M3", "[3]", "[0,2]"), "12"),
       "tensor 'x': has dtype F6_E2M3, which is not supported"},
      // MetadataIncompleteBuffer
      {frame_safetensors(one("U8", "[4]", "[0,4]"), "12345"),
       "has 66 bytes, its tensors end at 65: there is something behind them"},
      {frame_safetensors(one("U8", "[4]", "[0,4]"), "123"),
       "has 64 bytes, its tensors end at 65: it is cut short"},
      // The end of the data is beyond 64 bits; tensor.rs adds it unchecked.
      {frame_safetensors(one("U8", "[3]", "[18446744073709551612,18446744073709551615]"), "123"),
       "tensor 'x': lies beyond what a file can have"},
      // Duplicate keys, which "not all parsers" refuse.
      {frame_safetensors(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":)"
                         R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                         "x"),
       "its header has the key 'x' twice"},
      {frame_safetensors(R"({"__metadata__":{"a":{"b":"c"}}})"),
       "__metadata__: key 'a': expected a string, found an object"},
  };
  for (const Attack& attack : attacks) check_refused("x.safetensors", attack.bytes, attack.message);
}

}  // namespace
}  // namespace sluice::format
