#map = affine_map<(d0, d1, d2) -> (d0, d2)>
#map1 = affine_map<(d0, d1, d2) -> (d1, d2)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1)>
#map3 = affine_map<(d0, d1) -> (d0, d1)>
#map4 = affine_map<(d0, d1) -> (d1)>
module {
  func.func @kernel(%arg0: tensor<3x7xf16>, %arg1: tensor<5x7xf16>, %arg2: tensor<5xf16>, %arg3: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<3x5xf16> {
    %0 = tensor.empty() : tensor<3x5xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<3x5xf32>) -> tensor<3x5xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map2], iterator_types = ["parallel", "parallel", "reduction"]} ins(%arg0, %arg1 : tensor<3x7xf16>, tensor<5x7xf16>) outs(%1 : tensor<3x5xf32>) {
    ^bb0(%in: f16, %in_0: f16, %out: f32):
      %5 = arith.extf %in : f16 to f32
      %6 = arith.extf %in_0 : f16 to f32
      %7 = arith.mulf %5, %6 : f32
      %8 = arith.addf %out, %7 : f32
      linalg.yield %8 : f32
    } -> tensor<3x5xf32>
    %3 = tensor.empty() : tensor<3x5xf16>
    %4 = linalg.generic {indexing_maps = [#map3, #map4, #map3], iterator_types = ["parallel", "parallel"]} ins(%2, %arg2 : tensor<3x5xf32>, tensor<5xf16>) outs(%3 : tensor<3x5xf16>) {
    ^bb0(%in: f32, %in_0: f16, %out: f16):
      %5 = arith.truncf %in : f32 to f16
      %cst_1 = arith.constant 5.000000e-01 : f16
      %6 = arith.mulf %5, %cst_1 : f16
      %7 = arith.addf %6, %in_0 : f16
      linalg.yield %7 : f16
    } -> tensor<3x5xf16>
    return %4 : tensor<3x5xf16>
  }
}
